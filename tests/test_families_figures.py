"""The page of families of full size, and the models that it measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.families.models import MODELS, Model, save_folder
from benchmarks.families.page import PAGE, read_results, render
from lcve_deploy.exporters.checkpoints import load_checkpoint


def test_the_page_is_made_of_the_results_beside_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(read_results())


def test_what_was_not_measured_is_said() -> None:
    assert "not measured" in render({"vit": {"date": "a day", "cpu": "a CPU"}})


def test_random_models_are_read_as_transformers_saves_them(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = MODELS["vjepa2-16"]
    small = {**model.settings, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "crop_size": 32}
    save_folder(Model(title="small", kind=model.kind, settings=small), tmp_path / "model")
    assert load_checkpoint(tmp_path / "model", model.options).model.config.geometry.frames == 16
