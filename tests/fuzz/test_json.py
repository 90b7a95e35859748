"""JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.artifact import read_manifest
from lcve_deploy.artifact.digests import path_problem
from lcve_deploy.errors import ArtifactError, CheckpointError
from lcve_deploy.files import reading as inputs
from tests.conftest import run_error
from tests.fuzz.helpers import (
    read,
    refusal,
    seed,
)


def manifest(**changes: object) -> bytes:
    return json.dumps({**json.loads(seed("manifest")), **changes}).encode()


@pytest.mark.parametrize("depth", [65, 500, 980, 100_000])
def test_nested_json_is_refused(depth: int) -> None:
    """Deep enough to be read and too deep to be shown was a RecursionError."""
    deep = b"[" * depth + b"]" * depth
    assert "nested" in refusal("manifest", b'{"files": ' + deep + b"}")
    assert "nested" in refusal("folder", b'c{"model_type": ' + deep + b"}")


@pytest.mark.parametrize("digits", ["9" * 20, "1" * 400, "9" * 4299, "1" * 100_000])
def test_a_giant_number_is_no_whole_number(digits: str) -> None:
    assert "opset" in refusal("manifest", manifest(opset="#").replace(b'"#"', digits.encode()))
    width = seed("folder", "config").replace(b'"hidden_size": 6', b'"hidden_size": ' + digits.encode())
    assert "hidden_size" in refusal("folder", width)
    scale = seed("folder", "processor").replace(
        b'"rescale_factor": 0.00392156862745098', b'"rescale_factor": ' + digits.encode()
    )
    assert isinstance(read("folder", scale), CheckpointError) or len(digits) < 300


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1e-999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    data = json.loads(seed("manifest"))
    data["parity"]["tolerance"] = "#"
    assert "parity" in refusal("manifest", json.dumps(data).replace('"#"', number).encode())


def test_of_equal_names_the_last_counts() -> None:
    assert "format" in refusal("manifest", seed("manifest").rstrip()[:-1] + b', "format": 3}')


@pytest.mark.parametrize("target", ["manifest", "client", "engine"])
def test_half_a_surrogate_pair_is_not_json(target: str) -> None:
    """It could be read, and then not be printed or be made a path."""
    document = {**json.loads(seed(target)), "note": "\ud800"}
    assert "not JSON" in refusal(target, json.dumps(document).encode())


def test_json_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ArtifactError, match=f"at most {inputs.MAX_JSON_BYTES}"):
        read_manifest(tmp_path)


def test_many_problems_are_counted() -> None:
    names: dict[str, dict[str, Any]] = {f"{i}": {} for i in range(10_000)}
    message = refusal("manifest", manifest(files=names))
    assert "and 19" in message
    assert len(message) < 10_000


@pytest.mark.parametrize("path", ["a\0b", "a\nb", "\x1b[2J", "x" * 256, "x/" * 600, "\ud800"])
def test_paths_that_no_file_can_have_are_refused(path: str) -> None:
    """A zero byte was a ValueError where the file was looked for, a long name an OSError."""
    assert path_problem(path.replace("\ud800", "\u2028"))


def test_an_error_cannot_move_the_cursor(tmp_path: Path) -> None:
    data = manifest(files={"\x1b[2J\x1b[1;1Hall is well": {}})
    (tmp_path / "manifest.json").write_bytes(data)
    assert "\x1b" not in run_error("inspect", tmp_path)
