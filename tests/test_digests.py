"""Files of an artifact are those that were recorded: place, size and digest of each, and no other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lcve_deploy.artifact.digests import (
    FileRecord,
    copy_files,
    path_problem,
    record_files,
    record_of,
    sha256_of,
    verify_files,
)
from lcve_deploy.errors import ArtifactError

CONTENT = {"a.bin": b"first", "sub/b.bin": bytes(3 * 2**20 + 7), "empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for name, content in CONTENT.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "manifest.json").write_text("{}")
    return root


@pytest.fixture
def records(folder: Path) -> dict[str, FileRecord]:
    return {name: record for name, record in record_files(folder).items() if name != "manifest.json"}


def test_a_record_is_size_and_sha_256(records: dict[str, FileRecord]) -> None:
    expected = {
        name: FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in CONTENT.items()
    }
    assert records == expected


def test_a_record_of_parts_is_that_of_the_whole() -> None:
    data = memoryview(bytes(range(256)) * 9)
    whole = FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    assert record_of([data]) == record_of([data[:100], data[100:100], data[100:]]) == whole


def test_files_as_recorded_pass(folder: Path, records: dict[str, FileRecord]) -> None:
    verify_files(folder, records)


def _put(name: str, content: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return change


def _link(name: str, target: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to(target)

    return change


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "content of the same size": (_put("a.bin", b"fIrst"), "a.bin has a different SHA-256"),
    "last byte of a long file": (_put("sub/b.bin", bytes(3 * 2**20 + 6) + b"x"), "b.bin has a different SHA-256"),
    "shorter": (_put("a.bin", b"firs"), "a.bin has 4 bytes, expected 5"),
    "longer": (_put("a.bin", b"first!"), "a.bin has 6 bytes, expected 5"),
    "no longer empty": (_put("empty", b"x"), "empty has 1 bytes, expected 0"),
    "gone": (lambda root: (root / "a.bin").unlink(), "a.bin is missing"),
    "a folder": (lambda root: ((root / "empty").unlink(), (root / "empty").mkdir()), "empty is not a regular file"),
    "a file too many": (_put("more", b""), "more is not listed"),
    "a file too many, further down": (_put("sub/more", b""), "sub/more is not listed"),
    "a file beside the engines": (_put("sub/engines/x", b""), "sub/engines/x is not listed"),
    "a file whose name has lines": (_put("x\nhint: run: y", b""), r": 'x\\nhint: run: y' is not listed"),
    "a second manifest": (_put("sub/manifest.json", b""), "sub/manifest.json is not listed"),
    "a link to outside": (_link("a.bin", "../outside"), "a.bin is a link, and an artifact has none"),
    "a link within": (_link("a.bin", "sub/b.bin"), "a.bin is a link, and an artifact has none"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_files_that_changed_are_named(
    folder: Path, records: dict[str, FileRecord], change: Callable[[Path], None], message: str
) -> None:
    (folder.parent / "outside").write_bytes(b"first")
    change(folder)
    with pytest.raises(ArtifactError, match=message) as caught:
        verify_files(folder, records)
    assert "copy the folder again" in caught.value.hint


def test_every_problem_is_named_at_once(folder: Path, records: dict[str, FileRecord]) -> None:
    for name in ("a.bin", "sub/b.bin", "empty"):
        (folder / name).unlink()
    with pytest.raises(ArtifactError, match=r"a\.bin is missing; empty is missing; sub/b\.bin is missing"):
        verify_files(folder, records)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "engines/x/engine.json"])
def test_manifest_signature_and_engines_need_no_record(folder: Path, records: dict[str, FileRecord], name: str) -> None:
    _put(name, b"x")(folder)
    verify_files(folder, records)


def test_the_signature_belongs_to_the_manifest_alone(folder: Path, records: dict[str, FileRecord]) -> None:
    (folder / "manifest.json").rename(folder / "engine.json")
    verify_files(folder, records, listing="engine.json")
    _put("manifest.sig", b"x")(folder)
    with pytest.raises(ArtifactError, match=r"do not match its engine\.json: manifest\.sig is not listed"):
        verify_files(folder, records, listing="engine.json")


def test_digests_of_the_named_files_alone_are_checked_and_all_sizes(
    folder: Path, records: dict[str, FileRecord]
) -> None:
    (folder / "a.bin").write_bytes(b"fIrst")
    verify_files(folder, records, read=("empty",))
    with pytest.raises(ArtifactError, match="a different SHA-256"):
        verify_files(folder, records, read=("a.bin",))
    (folder / "a.bin").write_bytes(b"longer")
    with pytest.raises(ArtifactError, match="has 6 bytes"):
        verify_files(folder, records, read=())


def test_a_copy_is_checked_on_the_way(folder: Path, records: dict[str, FileRecord], tmp_path: Path) -> None:
    steps: list[int] = []
    copy_files(folder, tmp_path / "copy", records, steps=steps.append)
    for name, content in CONTENT.items():
        assert (tmp_path / "copy" / name).read_bytes() == content
    assert steps == sorted(steps)
    assert steps[-1] == sum(map(len, CONTENT.values()))
    (folder / "a.bin").write_bytes(b"fIrst")
    (folder / "sub/b.bin").write_bytes(bytes(3 * 2**20 + 8))
    with pytest.raises(ArtifactError, match=r"a\.bin has a different SHA-256; sub/b\.bin has a different SHA-256"):
        copy_files(folder, tmp_path / "again", records)


def test_a_digest_is_of_the_whole_file(folder: Path) -> None:
    assert sha256_of(folder / "sub/b.bin") == hashlib.sha256(CONTENT["sub/b.bin"]).hexdigest()


@pytest.mark.parametrize("path", ["a", "a/b.c", "..a/b..", "a" * 255, "/".join(["a" * 203] * 5) + "/abcd", "ä" * 127])
def test_paths_inside_the_folder(path: str) -> None:
    assert path_problem(path) == ""


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "not a relative path"),
        ("/a", "not a relative path"),
        ("C:/a", "not a relative path"),
        ("a\\b", "not a relative path"),
        ("..", "leaves the folder"),
        ("a/../../b", "leaves the folder"),
        ("a/..", "leaves the folder"),
        ("a" * 256, "printable text of at most 1024 bytes"),
        ("ä" * 128, "printable text"),
        ("/".join(["a" * 203] * 5) + "/abcde", "printable text"),
        ("a\nb", "printable text"),
        ("a\x1b[2J", "printable text"),
    ],
)
def test_other_paths_are_none(path: str, problem: str) -> None:
    assert problem in path_problem(path)
    assert len(path_problem(path)) < 200


def test_a_long_path_is_shown_in_part() -> None:
    assert path_problem("\n" + "x" * 5000).startswith(f"{chr(10) + 'x' * 79!r} is not a path of printable text")


def test_files_in_folders_within_folders_are_copied(tmp_path: Path) -> None:
    (tmp_path / "from/a/b").mkdir(parents=True)
    (tmp_path / "from/a/b/c").write_bytes(b"content")
    copy_files(tmp_path / "from", tmp_path / "to", record_files(tmp_path / "from"))
    assert (tmp_path / "to/a/b/c").read_bytes() == b"content"
