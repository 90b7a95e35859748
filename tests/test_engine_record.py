"""``engine.json`` and batch sizes without an engine: fields are read back, and what is wrong is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.artifact.digests import record_of
from lcve_deploy.artifact.engines import (
    Agreement,
    EngineKind,
    EngineRecord,
    Proof,
    check_engine,
    engine_folder,
    list_engines,
    read_engine,
    require_engine_name,
    write_engine,
)
from lcve_deploy.artifact.manifest import manifest_digest, write_manifest
from lcve_deploy.artifact.profile import Profile
from lcve_deploy.errors import ArtifactError, SessionError
from lcve_deploy.model.precision import Precision

from .manifests import MANIFEST

NAME = "tensorrt-fp16"
SHORT = EngineRecord(
    name=NAME,
    kind=EngineKind.TENSORRT,
    precision=Precision.FP16,
    builder={"tensorrt": "10.9"},
    target="sm_90",
    manifest_sha256="ab" * 32,
)
WHOLE = dataclasses.replace(
    SHORT,
    profile=Profile(minimum=2, optimum=3, maximum=5),
    options={"budget": "0.5"},
    ranges={"x": 0.25},
    files={"engine.plan": record_of([memoryview(b"plan")])},
    proof=Proof(device="a GPU", clips=2, max_difference=0.1, budget=0.5, milliseconds=1.5),
    agreement=Agreement(clips=3, max_difference=0.2, top1=1.0),
)


def written(server: Path, record: EngineRecord) -> Path:
    folder = engine_folder(server, record.name)
    folder.mkdir(parents=True)
    write_engine(folder, record)
    return folder / "engine.json"


def problems(server: Path, *path: str, value: Any) -> str:
    """What is said of a record with one value changed."""
    file = written(server, WHOLE)
    content = json.loads(file.read_text())
    place = content
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    file.write_text(json.dumps(content))
    with pytest.raises(ArtifactError) as caught:
        read_engine(server, NAME)
    return str(caught.value)


@pytest.mark.parametrize("record", [SHORT, WHOLE], ids=["short", "whole"])
def test_what_is_written_reads_back(tmp_path: Path, record: EngineRecord) -> None:
    written(tmp_path, record)
    assert read_engine(tmp_path, NAME) == record


def test_people_can_read_the_file(tmp_path: Path) -> None:
    lines = written(tmp_path, WHOLE).read_text().splitlines(keepends=True)
    assert lines[:2] == ["{\n", '  "format": 2,\n']
    assert lines[-1] == "}\n"


def test_figures_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    wrong = dataclasses.replace(WHOLE, agreement=Agreement(clips=1, max_difference=float("nan"), top1=0.0))
    with pytest.raises(ValueError, match="JSON"):
        written(tmp_path, wrong)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 3, "format: expected 2, received 3; a newer version"),
        (("name",), "tensorrt-fp32", "name: expected text like"),
        (("kind",), "torch", "kind: "),
        (("precision",), "fp8", "precision: "),
        (("target",), None, "target: expected text"),
        (("manifest_sha256",), "ab", "manifest_sha256: expected text like"),
        (("profile", "minimum"), 4, "profile: expected batch sizes"),
        (("profile", "minimum"), 0, "profile.minimum: expected at least 1"),
        (("proof", "clips"), 0, "proof.clips: expected at least 1"),
        (("agreement", "clips"), 0, "agreement.clips: expected at least 1"),
        (("ranges", "x"), -1, "ranges.x: expected a finite number"),
        (("options", "budget"), "0", "options.budget: expected a finite number above 0, received '0'"),
        (("options", "budget"), "-1", "options.budget: expected a finite number above 0"),
        (("options", "budget"), "inf", "options.budget: expected a finite number above 0"),
        (("options", "budget"), "nan", "options.budget: expected a finite number above 0"),
        (("options", "budget"), "much", "options.budget: expected a finite number above 0"),
        (("files",), {"../engine.plan": {"bytes": 1, "sha256": "ab" * 32}}, "files: "),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, path: tuple[str, ...], value: object, message: str) -> None:
    assert message in problems(tmp_path, *path, value=value)


@pytest.mark.parametrize("name", ["a", "a" * 64, "0.9_x-y", "fast"])
def test_names_that_make_a_folder(name: str) -> None:
    assert require_engine_name(name) == name


@pytest.mark.parametrize("name", ["", "a" * 65, "A", "-a", ".a", "a/b", "..", "a\n", "fastest"])
def test_names_that_make_none(name: str) -> None:
    with pytest.raises(ArtifactError, match="an engine name of 1 to 64"):
        require_engine_name(name)


def test_engines_are_listed_by_name_and_other_folders_are_not(tmp_path: Path) -> None:
    assert list_engines(tmp_path) == ()
    for name in ("b", "a"):
        written(tmp_path, dataclasses.replace(SHORT, name=name))
    for other in ("Not an engine", "empty"):
        (tmp_path / "engines" / other).mkdir()
    (tmp_path / "engines/Not an engine/engine.json").write_text("{}")
    assert list_engines(tmp_path) == ("a", "b")
    with pytest.raises(ArtifactError, match="no engine 'c'; it has: a, b"):
        read_engine(tmp_path, "c")


def test_a_folder_without_engines_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no engine 'c'; it has: none"):
        read_engine(tmp_path, "c")


def test_an_engine_belongs_to_one_manifest_and_has_its_own_files(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    record = dataclasses.replace(WHOLE, manifest_sha256=manifest_digest(tmp_path))
    plan = written(tmp_path, record).with_name("engine.plan")
    plan.write_bytes(b"plan")
    check_engine(tmp_path, record)
    with pytest.raises(SessionError, match="was built from another model"):
        check_engine(tmp_path, WHOLE)
    plan.write_bytes(b"PLAN")
    with pytest.raises(ArtifactError, match="a different SHA-256"):
        check_engine(tmp_path, record)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 1, 8), (2, 3, 3), (2, 2, 3)])
def test_batch_sizes_in_order(sizes: tuple[int, int, int]) -> None:
    minimum, optimum, maximum = sizes
    profile = Profile(minimum=minimum, optimum=optimum, maximum=maximum)
    assert str(profile) == ":".join(map(str, sizes))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (-1, 1, 1), (2, 1, 3), (1, 3, 2), (3, 3, 2)])
def test_batch_sizes_out_of_order_are_refused(sizes: tuple[int, int, int]) -> None:
    minimum, optimum, maximum = sizes
    with pytest.raises(ValueError, match="1 <= minimum <= optimum <= maximum, received "):
        Profile(minimum=minimum, optimum=optimum, maximum=maximum)


def test_batch_sizes_by_default() -> None:
    assert str(Profile()) == "1:1:8"
