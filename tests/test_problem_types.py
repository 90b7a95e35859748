"""What logits are taken for: one class, any number of classes, or values. Never the softmax of one number."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lcve_deploy import CheckpointOptions, Client, ExportOptions, ProblemType, SecurityKey, export
from lcve_deploy.errors import ArtifactError
from lcve_deploy.model.predictions import predictions, scores, sigmoid, softmax
from tests.conftest import ORACLE, ORACLES, SALT, run_error, run_ok

MULTI_LABEL = Path(__file__).parent / "data/faults/hf_multi_label"
CLIP = ORACLE / "clip_8x32x32.npy"
NAMES = [f"class {i}" for i in range(5)]


def logits_of(path: Path) -> np.ndarray:
    """The plain model's own logits for the clip, by transformers."""
    from lcve_deploy.exporters.checkpoints import load_checkpoint
    from lcve_deploy.exporters.reference.transformers import reference_for

    return reference_for(load_checkpoint(path)).logits(np.load(CLIP)[None])[0]


def folder(tmp_path: Path, outputs: int, **changes: Any) -> Path:
    """A copy with fewer outputs, which depend more on the clip, and other settings; None takes an entry away."""
    copy = Path(shutil.copytree(MULTI_LABEL, tmp_path / "model"))
    weights = load_file(copy / "model.safetensors")
    cut = {n: 10 * array[:outputs] if n.startswith("classifier.") else array for n, array in weights.items()}
    save_file(cut, copy / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((copy / "config.json").read_text())
    settings |= {"id2label": {str(i): f"output {i}" for i in range(outputs)}, "label2id": None, **changes}
    (copy / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    return copy


def shown(path: Path, key_file: Path, tmp_path: Path, *options: str) -> tuple[Path, dict[str, Any]]:
    """Export a checkpoint, and what ``lcve run`` shows of the clip."""
    service = tmp_path / "service"
    run_ok("export", "--key", key_file, "--ckpt", path, "-o", service, "--stride", 1, *options)
    return service, json.loads(run_ok("run", service, CLIP, "--key", key_file, "--json"))


def test_a_multi_label_folder_is_shown_as_sigmoids(key_file: Path, key: SecurityKey, tmp_path: Path) -> None:
    service, answer = shown(MULTI_LABEL, key_file, tmp_path)
    expected = 1 / (1 + np.exp(-logits_of(MULTI_LABEL)))
    assert answer["problem_type"] == "multi_label_classification"
    found = {p["name"]: p["probability"] for p in answer["predictions"]}
    names = ("person", "car", "smoking", "running", "night")
    assert found == pytest.approx(dict(zip(names, expected, strict=True)), abs=1e-5)
    assert not np.isclose(sum(found.values()), 1)

    logits = tmp_path / "logits.npy"
    run_ok("encrypt", CLIP, "--key", key_file, "--client", service / "client", "-o", tmp_path / "clip.lcve")
    run_ok("run", service / "server", tmp_path / "clip.lcve", "--logits-out", logits)
    read = json.loads(run_ok("read", logits, "--key", key_file, "--client", service / "client", "--json"))
    assert read["predictions"] == answer["predictions"]
    assert Client.open(service / "client", key).settings.problem_type is ProblemType.MULTI_LABEL
    assert "multi_label_classification" in run_ok("inspect", service / "client")


@pytest.mark.parametrize("said", ["regression", None, "single_label_classification"])
def test_one_logit_is_shown_as_it_is(key_file: Path, tmp_path: Path, said: str | None) -> None:
    path = folder(tmp_path, 1, problem_type=said)
    service, answer = shown(path, key_file, tmp_path)
    (prediction,) = answer["predictions"]
    assert prediction == {"index": 0, "name": "output 0", "value": pytest.approx(logits_of(path)[0], abs=1e-5)}
    assert f"{logits_of(path)[0]:.4f}" in run_ok("run", service, CLIP, "--key", key_file)


def test_one_logit_of_a_multi_label_model_is_its_sigmoid(key_file: Path, tmp_path: Path) -> None:
    path = folder(tmp_path, 1)
    _, answer = shown(path, key_file, tmp_path)
    assert answer["predictions"][0]["probability"] == pytest.approx(1 / (1 + np.exp(-logits_of(path)[0])), abs=1e-5)


def test_every_value_of_a_regression_is_shown_in_order(key_file: Path, tmp_path: Path) -> None:
    path = folder(tmp_path, 4, problem_type="regression")
    _, answer = shown(path, key_file, tmp_path)
    assert [p["index"] for p in answer["predictions"]] == [0, 1, 2, 3]
    assert [p["value"] for p in answer["predictions"]] == pytest.approx(logits_of(path), abs=1e-5)


def official(tmp_path: Path, outputs: int, factor: int = 1) -> Path:
    state = dict(torch.load(ORACLE / "v1_model_args.pth", weights_only=False)["model"])
    path = tmp_path / "model.pth"
    torch.save(
        {"model": {**state, **{f"head.{n}": factor * state[f"head.{n}"][:outputs] for n in ("weight", "bias")}}}, path
    )
    return path


FLAGS = ORACLES["v1_model_args"].flags


def test_an_official_file_with_one_output_gives_a_value(key_file: Path, tmp_path: Path) -> None:
    service, answer = shown(official(tmp_path, 1, factor=10), key_file, tmp_path, *FLAGS)
    lines = [line.split() for line in run_ok("inspect", service).splitlines()]
    assert ["classes", "1:", "class", "0"] in lines
    assert ["assumed", "class", "names:", "class", "0", "(--labels)"] in lines
    assert answer["predictions"][0]["value"] == pytest.approx(10 * ORACLES["v1_model_args"].logits[0], abs=1e-4)


@pytest.mark.parametrize("salt", [10, 38])
def test_a_model_of_one_logit_exports_under_every_salt(key: SecurityKey, tmp_path: Path, salt: int) -> None:
    """On one clip alone, a wrong way is close to the right one under these salts."""
    options = ExportOptions(checkpoint=CheckpointOptions(heads=3, frames=8, size=32), salt=bytes([salt]) * 16)
    assert export(official(tmp_path, 1), tmp_path / "service", key=key, options=options).parity.ok


def test_the_owner_can_say_what_the_logits_are(key_file: Path, tmp_path: Path) -> None:
    path = official(tmp_path, 5)
    _, answer = shown(path, key_file, tmp_path, *FLAGS, "--problem-type", "multi_label_classification")
    expected = sorted(sigmoid(ORACLES["v1_model_args"].logits), reverse=True)
    assert [p["probability"] for p in answer["predictions"]] == pytest.approx(expected, abs=1e-5)


def test_the_softmax_of_one_number_is_refused(key_file: Path, tmp_path: Path) -> None:
    said = ("--problem-type", "single_label_classification")
    arguments = ("export", "--key", key_file, "--ckpt", official(tmp_path, 1), "-o", tmp_path / "service")
    assert "at least 2 classes" in run_error(*arguments, *FLAGS, *said)
    assert not (tmp_path / "service").exists()


def test_a_problem_type_that_nothing_says_is_an_assumption(key: SecurityKey, tmp_path: Path) -> None:
    options = CheckpointOptions(heads=3, frames=8, size=32)
    notes = export(official(tmp_path, 5), tmp_path / "a", key=key, options=ExportOptions(checkpoint=options)).notes
    assert any("--problem-type" in note and "softmax" in note for note in notes)
    said = ExportOptions(checkpoint=options, problem_type=ProblemType.SINGLE_LABEL)
    notes = export(official(tmp_path, 5), tmp_path / "b", key=key, options=said).notes
    assert not any("--problem-type" in note for note in notes)
    assert not any("--problem-type" in note for note in export(MULTI_LABEL, tmp_path / "c", key=key).notes)


def test_a_problem_type_that_is_none_is_one_clear_error(key_file: Path, tmp_path: Path) -> None:
    path = folder(tmp_path, 5, problem_type="mystery")
    error = run_error("export", "--key", key_file, "--ckpt", path, "-o", tmp_path / "service")
    assert "problem_type" in error
    assert "mystery" in error


@pytest.mark.parametrize("value", [None, "softmax", 1, "single_label_classification"])
def test_settings_without_a_problem_type_that_makes_sense_are_refused(
    key: SecurityKey, tmp_path: Path, value: object
) -> None:
    service = tmp_path / "service"
    export(folder(tmp_path, 1), service, key=key, options=ExportOptions(salt=SALT))
    path = service / "client/client.json"
    settings = {**json.loads(path.read_text()), "problem_type": value}
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    with pytest.raises(ArtifactError, match="problem_type"):
        Client.open(service / "client", key)


VIEWS = np.array([[0.0, 3.0, -2.0, 1.0, 0.5], [2.0, -1.0, -2.0, 4.0, 0.5]], np.float32)


def test_views_are_averaged_as_what_they_mean() -> None:
    np.testing.assert_allclose(scores(VIEWS, ProblemType.SINGLE_LABEL), softmax(VIEWS).mean(0))
    np.testing.assert_allclose(
        scores(VIEWS, ProblemType.MULTI_LABEL), (1 / (1 + np.exp(-VIEWS.astype(float)))).mean(axis=0)
    )
    np.testing.assert_allclose(scores(VIEWS, ProblemType.REGRESSION), [1.0, 1.0, -2.0, 2.5, 0.5])


def test_top_is_for_classes_and_not_for_values() -> None:
    assert [p.index for p in predictions(VIEWS, NAMES, ProblemType.MULTI_LABEL, top=2)] == [3, 0]
    assert len(predictions(VIEWS, NAMES, ProblemType.REGRESSION, top=2)) == 5


def test_sigmoids_of_large_logits_are_exact_and_quiet() -> None:
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(sigmoid(np.array([-1e4, 0.0, 1e4])), [0.0, 0.5, 1.0])


def test_watch_shows_values_and_probabilities_alike() -> None:
    from lcve_deploy.cli.watching import _window_line
    from lcve_deploy.verbs.watch.results import Outcome, WindowResult
    from lcve_deploy.video.moments import Moment

    moment = Moment(frame=0, time=datetime.datetime.now(datetime.UTC), position=0.0, read=0.0)
    result = {
        kind: WindowResult(
            number=0,
            first=moment,
            last=moment,
            outcome=Outcome.ANSWERED,
            predictions=tuple(predictions(VIEWS[:1], NAMES, kind, top=1)),
        )
        for kind in ProblemType
    }
    assert "0.000 class 0, 3.000 class 1" in _window_line(result[ProblemType.REGRESSION])
    assert result[ProblemType.REGRESSION].to_json()["predictions"][1] == {"index": 1, "name": "class 1", "value": 3.0}
    assert "95.3% class 1" in _window_line(result[ProblemType.MULTI_LABEL])


def test_a_batch_has_a_column_for_either() -> None:
    from lcve_deploy.verbs.batch.worker import _scores

    assert _scores(predictions(VIEWS[:1], NAMES, ProblemType.REGRESSION, top=1)) == {"values": [0, 3, -2, 1, 0.5]}
    assert list(_scores(predictions(VIEWS, NAMES, ProblemType.SINGLE_LABEL, top=1))) == ["probabilities"]
