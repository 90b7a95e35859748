"""Class names that come with the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from lcve_deploy import Client, SecurityKey
from lcve_deploy.exporters.labels import NAMED_LABELS, class_names
from tests.conftest import ORACLES, SECRET, run_error, run_ok

TINY = ORACLES["v1_model_args"]
SHA_256 = "e9f2806fe9109b851a80a74841244f6f8c9d10917fa0229cd82bab67f2f8e28f"
KNOWN = {0: "abseiling", 7: "arranging flowers", 43: "capoeira", 100: "drinking", 232: "playing guitar", 399: "zumba"}
KNOWN |= {303: "sign language interpreting", 308: "skiing (not slalom or crosscountry)", 352: "tasting beer"}


def with_classes(path: Path, classes: int) -> Path:
    """The tiny checkpoint with another number of classes."""
    content = torch.load(TINY.path, weights_only=False)
    state = content["model"]
    weights = torch.randn(classes, state["head.weight"].shape[1], generator=torch.Generator().manual_seed(0))
    state["head.weight"], state["head.bias"] = weights, torch.zeros(classes)
    torch.save({"model": state}, path)
    return path


def test_names_of_kinetics_400_stand_in_the_order_of_public_checkpoints() -> None:
    names = class_names("kinetics-400")
    assert len(names) == len(set(names)) == 400
    assert list(names) == sorted(names)
    assert {i: names[i] for i in KNOWN} == KNOWN
    assert hashlib.sha256(("\n".join(names) + "\n").encode()).hexdigest() == SHA_256


def test_an_unknown_data_set_says_which_ones_there_are() -> None:
    assert NAMED_LABELS == ("kinetics-400",)
    with pytest.raises(ValueError, match="expected one of kinetics-400, received 'kinetics-9'"):
        class_names("kinetics-9")


def test_an_export_takes_the_names_of_kinetics_400(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = with_classes(tmp_path / "k400.pth", 400)
    arguments = ("export", "--key", key_file, "--ckpt", checkpoint, *TINY.flags, "--labels", "kinetics-400")
    run_ok(*arguments, "-o", "service")
    assert Client.open("service/client", SecurityKey(SECRET)).settings.classes == class_names("kinetics-400")


def test_names_for_another_number_of_classes_are_refused(key_file: Path, tmp_path: Path) -> None:
    arguments = ("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", *TINY.flags)
    assert "of the checkpoint, received 400" in run_error(*arguments, "--labels", "kinetics-400")
    assert not (tmp_path / "out").exists()


def test_a_file_of_that_name_is_still_a_file(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kinetics-400").write_text("a\nb\nc\nd\ne\n")
    run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", "out", *TINY.flags, "--labels", "kinetics-400")
    assert Client.open("out/client", SecurityKey(SECRET)).settings.classes == tuple("abcde")


def test_a_name_that_is_neither_a_file_nor_known_says_what_is_known(key_file: Path, tmp_path: Path) -> None:
    arguments = ("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", *TINY.flags)
    error = run_error(*arguments, "--labels", "kinetics-4000")
    assert "kinetics-4000 cannot be read" in error
    assert "built-in names: kinetics-400" in error
