"""``-`` in place of a file: standard input and standard output."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest

from lcve_deploy import read_clip_file
from lcve_deploy.cli import lcve, pipes
from lcve_deploy.files.writing import new_file

from .conftest import ORACLE, run_ok

CLIP = ORACLE / "clip_8x32x32.npy"
PROGRAM = [sys.executable, "-c", "import sys; from lcve_deploy.cli import lcve; lcve(sys.argv[1:])"]


def run(*arguments: object, data: bytes = b"") -> click.testing.Result:
    """Run a command in this process, with bytes on standard input."""
    result = click.testing.CliRunner().invoke(lcve, [str(argument) for argument in arguments], input=data)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ok(*arguments: object, data: bytes = b"") -> bytes:
    result = run(*arguments, data=data)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


def error(*arguments: object, data: bytes = b"") -> str:
    result = run(*arguments, data=data)
    assert result.exit_code in (1, 2)
    assert result.stdout_bytes == b""
    (line,) = (line for line in result.stderr.splitlines() if line.lower().startswith("error: "))
    return line


def program(*arguments: object) -> list[str]:
    """A command in a process of its own."""
    return [*PROGRAM, *map(str, arguments)]


@pytest.fixture
def sides(exported: Path, key_file: Path) -> tuple[object, ...]:
    return ("--key", key_file, "--client", exported / "client")


def test_a_clip_goes_from_the_edge_to_the_operator_and_back_through_pipes(
    exported: Path, key_file: Path, sides: tuple[object, ...]
) -> None:
    with CLIP.open("rb") as plain:
        encrypt = subprocess.Popen(program("encrypt", "-", *sides, "-o", "-"), stdin=plain, stdout=subprocess.PIPE)
    run_it = subprocess.Popen(
        program("run", exported / "server", "-", "--json"), stdin=encrypt.stdout, stdout=subprocess.PIPE
    )
    read = subprocess.run(program("read", "-", *sides, "--json"), stdin=run_it.stdout, capture_output=True, check=True)
    assert encrypt.wait() == run_it.wait() == 0
    whole = json.loads(run_ok("run", exported, CLIP, "--key", key_file, "--json"))
    assert json.loads(read.stdout)["predictions"] == whole["predictions"]


def test_standard_output_has_the_bytes_of_the_file_and_nothing_else(tmp_path: Path, sides: tuple[object, ...]) -> None:
    written = ok("encrypt", CLIP, *sides, "-o", "-")
    run_ok("encrypt", CLIP, *sides, "-o", tmp_path / "clip.lcve")
    assert written == (tmp_path / "clip.lcve").read_bytes()
    assert not list(tmp_path.glob("-"))


def test_decrypt_reads_and_writes_pipes(key_file: Path, sides: tuple[object, ...]) -> None:
    encrypted = ok("encrypt", CLIP, *sides, "-o", "-")
    plain = ok("decrypt", "-", "--key", key_file, "-o", "-", data=encrypted)
    np.testing.assert_array_equal(np.load(io.BytesIO(plain)), np.load(CLIP))


def test_inspect_reads_a_pipe(key_file: Path, sides: tuple[object, ...], tmp_path: Path) -> None:
    run_ok("encrypt", CLIP, *sides, "-o", tmp_path / "clip.lcve")
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    for file in (*(tmp_path / "clip.lcve", key_file, tmp_path / "signing.pem", tmp_path / "signing.pub"),):
        assert ok("inspect", "-", data=file.read_bytes()).decode() == run_ok("inspect", file)
    assert "received nothing" in error("inspect", "-")
    assert "not an encrypted clip" in error("inspect", "-", data=b"no clip" * 99)


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "-"),
        ("verify", "x", "--key", "-", "--ckpt", "x"),
        ("run", "-", "x"),
        ("apply", "x", "-"),
        ("encrypt", "x", "--key", "-", "--client", "x", "-o", "x"),
    ],
)
def test_what_no_pipe_can_be_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert "cannot be used here; for a file of this name, write ./-" in error(*arguments)


def test_a_file_that_is_called_like_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ok("keygen", "-o", "./-")
    assert [path.name for path in tmp_path.iterdir()] == ["-"]
    ok("keygen", "--from", "./-", "--name", "camera", "-o", "derived.bin")


def test_a_video_comes_through_a_pipe(exported: Path, key_file: Path, tmp_path: Path) -> None:
    from lcve_deploy.video import write_video

    frames = (
        np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    )
    write_video(tmp_path / "video.mp4", frames)
    piped = ok("run", exported, "-", "--key", key_file, "--json", data=(tmp_path / "video.mp4").read_bytes())
    assert json.loads(piped) == json.loads(run_ok("run", exported, tmp_path / "video.mp4", "--key", key_file, "--json"))


def test_logits_come_and_go_through_pipes(exported: Path, sides: tuple[object, ...]) -> None:
    encrypted = ok("encrypt", CLIP, *sides, "-o", "-")
    logits = ok("run", exported / "server", "-", "--logits-out", "-", data=encrypted)
    values = np.load(io.BytesIO(logits))
    assert values.shape == (5,)
    from_npy = ok("read", "-", *sides, "--json", data=logits)
    rows = [values.tolist()]
    for text in (json.dumps(rows[0]), json.dumps({"logits": rows}), f"{json.dumps(rows[0])}\n\n"):
        assert ok("read", "-", *sides, "--json", data=text.encode()) == from_npy
    lines = "".join(f"{json.dumps({'logits': [row]})}\n" for row in (rows[0], rows[0]))
    assert json.loads(ok("read", "-", *sides, "--json", data=lines.encode()))["views"] == "2x1"


def test_logits_in_a_json_file(exported: Path, sides: tuple[object, ...], tmp_path: Path) -> None:
    run_ok("encrypt", CLIP, *sides, "-o", tmp_path / "clip.lcve")
    (tmp_path / "logits.json").write_text(run_ok("run", exported / "server", tmp_path / "clip.lcve", "--json"))
    run_ok("run", exported / "server", tmp_path / "clip.lcve", "--logits-out", tmp_path / "logits.npy")
    assert run_ok("read", tmp_path / "logits.json", *sides) == run_ok("read", tmp_path / "logits.npy", *sides)


@pytest.mark.parametrize(
    "text",
    [b"[]", b"[1, 2]", b'["a", "b", "c", "d", "e"]', b"[true, true, true, true, true]", b"{}", b"[[1, 2], [3]]", b"{x"],
)
def test_other_json_is_one_clear_error(sides: tuple[object, ...], text: bytes) -> None:
    assert "expected" in error("read", "-", *sides, data=text)


def test_what_is_missing_or_too_long_on_standard_input_is_one_clear_error(
    exported: Path, key_file: Path, sides: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "received nothing" in error("decrypt", "-", "--key", key_file, "-o", "-")
    assert "not an encrypted clip" in error("decrypt", "-", "--key", key_file, "-o", "-", data=b"no clip" * 99)
    assert "lcve encrypt" in error("run", exported / "server", "-", data=CLIP.read_bytes())
    monkeypatch.setattr(pipes, "MAX_INPUT", 100)
    assert "at most 100 bytes" in error("read", "-", *sides, data=b"[" + b"1," * 99 + b"1]")


def test_an_output_is_not_mixed_with_json(exported: Path, key_file: Path, sides: tuple[object, ...]) -> None:
    assert "both write" in error("encrypt", CLIP, *sides, "-o", "-", "--json")
    assert "both write" in error("run", exported, CLIP, "--key", key_file, "--logits-out", "-", "--json")


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of POSIX")
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_terminal_is_neither_read_nor_filled_with_bytes(key_file: Path, sides: tuple[object, ...], side: str) -> None:
    arguments = ("encrypt", "-" if side == "input" else CLIP, *sides, "-o", "-")
    ours, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            stdin=terminal if side == "input" else subprocess.DEVNULL,
            stdout=terminal if side == "output" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(terminal)
        os.close(ours)
    assert done.returncode == 2
    assert f"standard {side}, which is a terminal" in done.stderr


def test_a_piped_clip_leaves_no_file_behind(
    key_file: Path, sides: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    encrypted = ok("encrypt", "-", *sides, "-o", "-", data=CLIP.read_bytes())
    error("decrypt", "-", "--key", key_file, "-o", "-", data=encrypted[:-1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_system_without_files_in_memory_reads_pipes_too(
    tmp_path: Path, sides: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    written = ok("encrypt", "-", *sides, "-o", "-", data=CLIP.read_bytes())
    with new_file(tmp_path / "clip.lcve") as file:
        file.write(written)
    assert str(read_clip_file(tmp_path / "clip.lcve").views) == "1x1"
