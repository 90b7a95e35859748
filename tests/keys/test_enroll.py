"""Keys for cameras: derived by their names, whole or not there, and made in any number of runs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    Client,
    EnrollOptions,
    SecurityKey,
    enroll,
    enroll_all,
    open_session,
)
from lcve_deploy.artifact import read_key_manifest, read_manifest
from lcve_deploy.errors import ArtifactError, ExistsError, KeyFileError, LcveError
from lcve_deploy.verbs import enroll as enroll_verb
from lcve_deploy.verbs._base import KeyBase
from tests.conftest import ORACLES, SALT, run_error, run_lcve, run_ok
from tests.keys.helpers import NEW_KEY, encrypted, enrolled, main
from tests.support.artifacts import add_key, contents
from tests.test_export import export_tiny

FILES = {"key.bin", "client/client.json", "server/key.json", "server/keyed.safetensors", "server/probe.safetensors"}


def test_an_enrolled_key_is_the_derived_key_and_only_its_owner_can_read_it(
    exported: Path, key: SecurityKey, tmp_path: Path
) -> None:
    camera = enrolled(exported, tmp_path / "camera-7", key)
    assert set(contents(camera)) == FILES
    derived = SecurityKey.read(camera / "key.bin")
    assert derived == key.derive("camera-7")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in camera.rglob("*") if path.is_file()}
    assert modes.pop("key.bin") == 0o600
    assert set(modes.values()) == {0o666 & (camera.stat().st_mode & 0o777)}
    client = Client.open(camera / "client", derived)
    manifest = read_key_manifest(camera / "server")
    assert manifest.binding == client.settings.binding
    assert manifest.model_sha256 == read_manifest(exported / "server").digest
    assert client.settings.classes == Client.open(exported / "client", key).settings.classes


def test_an_enrolled_key_of_a_real_export_is_what_an_export_with_it_would_be(key: SecurityKey, tmp_path: Path) -> None:
    oracle = ORACLES["v1_first_token"]
    artifact = export_tiny(tmp_path / "service", key, oracle)
    camera = enrolled(artifact, tmp_path / "camera", key, salt=SALT)
    direct = export_tiny(tmp_path / "direct", key.derive("camera-7"), oracle, salt=SALT)
    name = "keyed.safetensors"
    assert (camera / "server" / name).read_bytes() == (main(direct) / name).read_bytes()


def test_many_names_each_have_a_key_and_a_salt(
    artifact: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    names = [f"camera-{number}" for number in range(5)]
    steps: list[tuple[int, int]] = []
    result = enroll_all(
        artifact,
        names,
        tmp_path / "out",
        key=key,
        progress=lambda stage, done, total: steps.append((done, total)) if stage == "enrolling" else None,
    )
    assert [camera.name for camera in result.enrolled] == names
    assert (result.skipped, steps) == (0, [(done, 5) for done in range(6)])
    assert len({camera.key.salt for camera in result.enrolled}) == 5
    assert len({camera.key.key_id for camera in result.enrolled}) == 5
    pairs = []
    for camera in result.enrolled:
        add_key(artifact / "server", camera.folder / "server", camera.name)
        pairs.append(encrypted(camera.folder / "client", SecurityKey.read(camera.folder / "key.bin"), clip[None]))
    logits = open_session(artifact / "server").run_batch([clip for _, clip in pairs])
    for (client, _), row in zip(pairs, logits, strict=True):
        np.testing.assert_allclose(client.plain_order(row[None])[0], ORACLES["v1_model_args"].logits, atol=1e-5)


def test_a_run_that_was_stopped_goes_on(
    exported: Path, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact is read once a run, whatever the number of names."""
    opened: list[Path] = []
    open_base, write = KeyBase.open, enroll_verb._write

    def counted(artifact: Path, secret: SecurityKey) -> KeyBase:
        opened.append(artifact)
        return open_base(artifact, secret)

    def stopped(base: KeyBase, master: SecurityKey, name: str, *rest: object) -> object:
        if name == "c":
            raise KeyboardInterrupt
        return write(base, master, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyBase, "open", counted)
    with monkeypatch.context() as patch:
        patch.setattr(enroll_verb, "_write", stopped)
        with pytest.raises(KeyboardInterrupt):
            enroll_all(exported, ["a", "b", "c", "d"], tmp_path / "out", key=key)
    before = contents(tmp_path / "out")
    assert {Path(name).parts[0] for name in before} == {"a", "b"}
    result = enroll_all(exported, ["a", "b", "c", "d"], tmp_path / "out", key=key)
    assert ([camera.name for camera in result.enrolled], result.skipped) == (["c", "d"], 2)
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert len(opened) == 2
    again = enroll_all(exported, ["a", "b", "c", "d"], tmp_path / "out", key=key)
    assert (again.enrolled, again.skipped) == ((), 4)
    assert contents(tmp_path / "out") == after


def test_a_renewal_has_the_same_key_a_new_salt_and_no_key_file(
    exported: Path, key: SecurityKey, tmp_path: Path
) -> None:
    first = enroll(exported, "camera-7", tmp_path / "first", key=key).enrolled[0]
    renewed = enroll(exported, "camera-7", tmp_path / "second", key=key, options=EnrollOptions(new_salt=True))
    second = renewed.enrolled[0]
    assert set(contents(second.folder)) == FILES - {"key.bin"}
    assert (second.key.key_id, second.key.salt != first.key.salt) == (first.key.key_id, True)
    Client.open(second.folder / "client", SecurityKey.read(first.folder / "key.bin"))


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (["Camera"], KeyFileError, "a key name is 1 to 64"),
        (["-x"], ArtifactError, "begins with a letter or digit"),
        (["../x"], ArtifactError, "begins with a letter or digit"),
        (["a", "b", "a"], ArtifactError, "a is there twice"),
        (["A", "b c", "ok"], ArtifactError, "received 'A'; .*'b c'"),
        ([f"N{number}" for number in range(9)], ArtifactError, "and 4 more"),
    ],
)
def test_names_that_are_invalid_are_refused_before_anything_is_written(
    exported: Path, key: SecurityKey, tmp_path: Path, names: list[str], kind: type[LcveError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        enroll_all(exported, names, tmp_path / "out", key=key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "another key", "another model"])
def test_what_is_no_enrolment_of_a_name_is_not_skipped(
    exported: Path, key: SecurityKey, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "out").mkdir()
    there = tmp_path / "out/b"
    if kind == "file":
        there.touch()
    elif kind == "folder":
        there.mkdir()
    elif kind == "another key":
        enrolled(exported, there, key, "a")
    else:
        enrolled(export_tiny(tmp_path / "other", key), there, key, "b")
    with pytest.raises(ExistsError, match=str(there)):
        enroll_all(exported, ["a", "b"], tmp_path / "out", key=key)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


def test_the_commands_of_an_enrolment(exported: Path, key_file: Path, tmp_path: Path) -> None:
    command = ("enroll", exported, "--key", key_file)
    shown = run_ok(*command, "--name", "camera-7", "-o", tmp_path / "one")
    assert "key.bin and client/ for the camera" in shown
    said = json.loads(run_ok(*command, "--name", "camera-7", "-o", tmp_path / "two", "--json"))
    assert said["key_id"] == SecurityKey.read(key_file).derive("camera-7").key_id
    assert (said["name"], said["folder"], said["notes"]) == ("camera-7", str(tmp_path / "two"), [])
    assert "(client/ for the camera" in run_ok(*command, "--name", "camera-7", "--new-salt", "-o", tmp_path / "three")

    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfa\n\n  b \r\n")
    assert "2 keys" in run_ok(*command, "--names", tmp_path / "names.txt", "-o", tmp_path / "many")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    shown = run_ok(*command, "--names", tmp_path / "names.txt", "-o", tmp_path / "many")
    assert "1 keys, 2 were there before" in shown
    said = json.loads(run_ok(*command, "--names", tmp_path / "names.txt", "-o", tmp_path / "many", "--json"))
    assert (said["enrolled"], said["skipped"]) == ([], 3)
    assert json.loads(run_ok("inspect", tmp_path / "one", "--json"))["kind"] == "enrolled key"


def test_the_commands_of_an_enrolment_fail_clearly(exported: Path, key_file: Path, tmp_path: Path) -> None:
    NEW_KEY.write(tmp_path / "new.bin")
    (tmp_path / "names.txt").write_text("\n")
    out = ("-o", tmp_path / "out")
    command = ("enroll", exported, "--key", key_file, *out)
    assert "--name or --names" in run_error(*command)
    assert "--name or --names" in run_error(*command, "--name", "a", "--names", tmp_path / "names.txt")
    assert "has no names" in run_error(*command, "--names", tmp_path / "names.txt")
    assert "not text in UTF-8" in run_error(*command, "--names", _binary(tmp_path))
    assert "cannot be read" in run_error(*command, "--names", tmp_path / "none")
    assert "--salt is for one" in run_error(*command, "--names", tmp_path / "names.txt", "--salt", SALT.hex())
    assert "--new-salt draws" in run_error(*command, "--name", "a", "--new-salt", "--salt", SALT.hex())
    assert "no key folder of the key" in run_error(
        "enroll", exported, "--key", tmp_path / "new.bin", "--name", "a", *out
    )
    assert "expected a folder with server/" in run_error("enroll", exported / "server", *command[2:], "--name", "a")
    assert "exists" in run_error(*command[:4], "--name", "a", "-o", tmp_path / "names.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binary", "names.txt", "new.bin"]


def _binary(folder: Path) -> Path:
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    return folder / "binary"


def test_no_key_shows(exported: Path, key_file: Path, key: SecurityKey, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    result = run_lcve(
        *("enroll", exported, "--key", key_file, "--names", tmp_path / "names.txt", "-o", tmp_path / "out", "--verbose")
    )
    assert result.exit_code == 0
    for name in "ab":
        secret = key.derive(name).to_bytes()[8:40]
        others = b"".join(data for path, data in contents(tmp_path / "out" / name).items() if path != "key.bin")
        assert secret not in others
        assert secret.hex() not in result.output
