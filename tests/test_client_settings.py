"""``client.json``: what is written is read again, and every problem is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy import ClipGeometry
from lcve_deploy.artifact import ClientFile, ClientSettings, read_client
from lcve_deploy.artifact.client_settings import write_client
from lcve_deploy.clips import Binding, Layout
from lcve_deploy.errors import ArtifactError
from lcve_deploy.model.assumptions import Assumption, Fact
from lcve_deploy.model.checkpoint_record import CheckpointForm, CheckpointRecord
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Preprocess, Resample, Rounding, Sampling

OBLONG = ClientSettings(
    binding=Binding(
        scheme="lcve-1",
        key_id="0" * 32,
        salt="1" * 32,
        geometry=ClipGeometry.parse("4x16x24x3/2x8x8"),
        layout=Layout.VIDEO,
    ),
    classes=("Läufer", "走"),
    problem_type=ProblemType.MULTI_LABEL,
    labels="shown",
    preprocess=Preprocess(
        frames=4,
        stride=3,
        sampling=Sampling.UNIFORM,
        short_side=None,
        size=(24, 30),
        resample=Resample.BICUBIC,
        crop=(16, 24),
        crop_rounding=Rounding.DOWN,
        channel_order="rgb",
    ),
    assumptions=(Assumption(fact=Fact.HEADS, value="3", option="--num-heads"),),
    checkpoint=CheckpointRecord(form=CheckpointForm.FILE, options={"--num-heads": "3"}),
)


DIGEST = "2" * 64


def write(folder: Path, settings: ClientSettings) -> ClientFile:
    content = ClientFile(settings=settings, manifest_sha256=DIGEST)
    write_client(folder, content)
    return content


def changed(folder: Path, **fields: Any) -> Path:
    """The settings on disk with other fields; a value of None takes the field out."""
    content = ClientFile(settings=OBLONG, manifest_sha256=DIGEST).to_json()
    content["preprocess"] = {**content["preprocess"], **fields.pop("preprocess", {})}
    content.update(fields)
    (folder / "client.json").write_text(json.dumps(content))
    return folder


def test_oblong_clips_and_names_of_any_script_come_back(tmp_path: Path) -> None:
    written = write(tmp_path, OBLONG)
    assert read_client(tmp_path) == written
    text = (tmp_path / "client.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "format"')
    assert '\n    "Läufer",\n    "走"\n' in text


def test_a_short_side_comes_back_in_place_of_a_size(tmp_path: Path) -> None:
    settings = replace(OBLONG, preprocess=replace(OBLONG.preprocess, short_side=24, size=None))
    written = write(tmp_path, settings)
    assert read_client(tmp_path) == written


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"classes": []}, "classes: .*a list of names"),
        ({"classes": ["a", 1]}, "classes: .*a list of names"),
        ({"classes": ["a"], "problem_type": "single_label_classification"}, "problem_type: "),
        ({"problem_type": "softmax"}, "problem_type: "),
        ({"labels": "secret"}, "labels: "),
        ({"preprocess": {"crop": [16]}}, r"crop: .*\[height, width\]"),
        ({"preprocess": {"crop": [16, 24, 3]}}, r"crop: .*\[height, width\]"),
        ({"preprocess": {"crop": [16, True]}}, r"crop: .*\[height, width\]"),
        ({"preprocess": {"crop": [24, 16]}}, "preprocess: does not produce clips of 4x16x24x3"),
        ({"preprocess": {"frames": 8}}, "preprocess: does not produce clips of 4x16x24x3"),
        ({"preprocess": {"sampling": "dense"}}, "sampling: "),
        ({"preprocess": {"resample": "area"}}, "resample: "),
        ({"preprocess": {"crop_rounding": "up"}}, "crop_rounding: "),
        ({"preprocess": {"size": [8, 24]}}, "preprocess: "),
        ({"preprocess": {"stride": 0}}, "preprocess: |stride: "),
        ({"checkpoint": {"form": "disc", "options": {}}}, r"checkpoint\.form: "),
        ({"checkpoint": {"form": "file", "options": {"--size": 32}}}, r"checkpoint\.options\.--size: expected text"),
        ({"checkpoint": "file"}, "checkpoint: expected an object"),
        ({"assumptions": [{"fact": "luck", "value": "", "option": ""}]}, r"assumptions\[0\].*fact: "),
    ],
)
def test_a_problem_is_named(fields: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=problem):
        read_client(changed(tmp_path, **fields))


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_client(changed(tmp_path, labels="secret", classes=[], preprocess={"crop": [1], "sampling": "dense"}))
    assert all(name in str(caught.value) for name in ("labels", "classes", "crop", "sampling"))


def test_a_problem_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_client(changed(tmp_path, preprocess={"stride": 0}))
    assert str(caught.value).count("; ") == 0
