"""An artifact records how its checkpoint was read, and ``lcve verify`` reads it in the same way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from lcve_deploy import CheckpointOptions, Normalisation, SecurityKey, verify
from lcve_deploy.artifact import read_client
from lcve_deploy.errors import CheckpointError, MismatchError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.families import Family
from lcve_deploy.exporters.checkpoints.options import ReadoutChoice
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.exporters.checkpoints.reading import read_pickled
from lcve_deploy.exporters.checkpoints.recorded import arguments_of, form_of, record_of, with_recorded
from lcve_deploy.model.checkpoint_record import CheckpointForm
from lcve_deploy.model.transformer import IMAGENET
from tests.conftest import ORACLE, ORACLES, SECRET, run_error, run_lcve, run_ok
from tests.support.artifacts import edit_json

TINY, FOLDER = ORACLES["v1_model_args"], ORACLES["hf_videomae"]
MEAN, STD = "0.4,0.5,0.6", "0.1,0.2,0.3"
SHAPE = CheckpointOptions(heads=3, frames=8, size=32)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> Path:
    """An artifact whose checkpoint is another model without the options of its export."""
    folder = tmp_path_factory.mktemp("recorded") / "service"
    given = ("--mean", MEAN, "--std", STD)
    run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", folder, *TINY.flags, *given)
    return folder


@pytest.fixture
def old(service: Path, tmp_path: Path) -> Path:
    """The artifact as an older version would have written it."""
    copy = Path(shutil.copytree(service, tmp_path / "old"))
    edit_json(copy / "client/client.json", lambda client: client.pop("checkpoint"))
    return copy


def test_verify_needs_no_options_of_the_export(service: Path, key_file: Path) -> None:
    shown = run_ok("verify", service, "--key", key_file, "--ckpt", TINY.path)
    assert "parity: ok" in shown
    (note,) = [line for line in shown.splitlines() if line.startswith("note: ")]
    assert note.startswith("note: the checkpoint is read as at the export: ")
    for option in (f"--mean {MEAN} --std {STD}", "--num-heads 3", "--family videomae", "--readout mean"):
        assert option in note
    report = json.loads(run_ok("verify", service, "--key", key_file, "--ckpt", TINY.path, "--json"))
    assert report["notes"] == [note.removeprefix("note: ")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--num-heads", "6"), "--num-heads 3"),
        (("--family", "umt"), "--family videomae"),
        (("--mean", "0.5,0.5,0.5", "--std", STD), f"--mean {MEAN}"),
        (("--frames", "16"), "--frames 8"),
    ],
)
def test_an_option_that_contradicts_the_export_is_an_error(
    service: Path, key_file: Path, given: tuple[str, ...], expected: str
) -> None:
    error = run_error("verify", service, "--key", key_file, "--ckpt", TINY.path, *given)
    assert f"expected the options of the export, {expected}, received {' '.join(given[:2])}" in error


def test_an_artifact_without_a_record_takes_options_and_states_what_is_assumed(old: Path, key_file: Path) -> None:
    assert read_client(old / "client").settings.checkpoint is None
    verify = ("verify", old, "--key", key_file, "--ckpt", TINY.path)
    shown = run_ok(*verify, "--mean", MEAN, "--std", STD)
    assert "read as at the export: --num-heads 3 --frames 8 --size 32\n" in shown
    assert "note: assumed family: VideoMAE" in shown
    assert "assumed normalisation" not in shown
    assert "expected the options of the export, --num-heads 3, received" in run_error(*verify, "--num-heads", 6)


def test_the_server_is_told_nothing_more(service: Path) -> None:
    assert "checkpoint" not in json.loads((service / "server/manifest.json").read_text())


def test_options_of_a_file_do_not_apply_to_a_folder(service: Path, key_file: Path) -> None:
    result = run_lcve("verify", service, "--key", key_file, "--ckpt", ORACLE / "folders/vit")
    assert result.exit_code == 1
    assert "note: the artifact was exported from a file: its options do not apply to a folder\n" in result.stdout
    assert "the checkpoint takes 1x32x32x3" in result.stderr


ALL = CheckpointOptions(
    heads=3,
    frames=8,
    size=32,
    short_side=40,
    normalisation=Normalisation(mean=(0.1, 1 / 3, 0.3), std=(0.2, 0.1, 1e-7)),
    family=Family.UMT,
    readout=ReadoutChoice.FIRST_TOKEN,
    weights="model ema",
    output=OutputChoice.TOKENS,
)


def test_options_come_back_exactly() -> None:
    assert with_recorded(CheckpointOptions(), arguments_of(ALL)) == ALL
    assert with_recorded(ALL, arguments_of(ALL)) == ALL


@pytest.mark.parametrize("name", ["v1_model_args", "v2_cos", "v2_plain", "v1_module_learnable", "hf_videomae"])
def test_what_was_assumed_is_stated_by_the_record(name: str) -> None:
    oracle = ORACLES[name]
    given = SHAPE if oracle.path.is_file() else CheckpointOptions()
    loaded = load_checkpoint(oracle.path, given)
    record = record_of(loaded, given)
    assert record.form is (CheckpointForm.FILE if oracle.path.is_file() else CheckpointForm.FOLDER)
    again = load_checkpoint(oracle.path, with_recorded(CheckpointOptions(), record.options))
    assert again.model.config == loaded.model.config
    assert again.model.normalisation == loaded.model.normalisation == IMAGENET
    assert again.assumptions == ()


def test_assumed_sizes_and_weights_are_stated_too(tmp_path: Path) -> None:
    state = read_pickled(TINY.path)["model"]
    torch.save({"model": state, "model_ema": state}, tmp_path / "two.pth")
    loaded = load_checkpoint(tmp_path / "two.pth", CheckpointOptions(heads=3))
    options = record_of(loaded, CheckpointOptions(heads=3)).options
    assert {"--frames": "16", "--size": "224", "--weights": "model", "--num-heads": "3"}.items() <= options.items()


@pytest.mark.parametrize("options", [{"--later": "1"}, {"--mean": "0,0,0"}, {"--num-heads": "many"}])
def test_a_record_that_cannot_be_applied_is_an_error(options: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match="record of the export"):
        with_recorded(CheckpointOptions(), options)


def test_a_model_on_a_hub_is_a_folder_and_a_missing_file_is_not(tmp_path: Path) -> None:
    forms = [form_of(path) for path in (Path("org/name"), FOLDER.path, TINY.path, tmp_path / "missing.pth")]
    assert [str(form) for form in forms] == ["folder", "folder", "file", "file"]


def test_class_vectors_must_be_given_again_and_be_the_same(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
    one, other = (CheckpointOptions(class_vectors=tmp_path / name) for name in ("one", "other"))
    recorded = arguments_of(one)
    assert with_recorded(one, recorded) == one
    with pytest.raises(CheckpointError, match="expected the class vectors that the artifact was exported with"):
        with_recorded(CheckpointOptions(), recorded)
    with pytest.raises(MismatchError, match="expected the options of the export, --class-vectors"):
        with_recorded(other, recorded)


def test_the_python_api_notes_the_same(service: Path) -> None:
    notes: list[str] = []
    assert verify(service, key=SecurityKey(SECRET), checkpoint=TINY.path, note=notes.append).ok
    assert len(notes) == 1
