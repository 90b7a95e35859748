"""Every class of transformers for images or videos is read, or is refused with a reason, and the page says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lcve_deploy.errors import UnsupportedModelError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.huggingface import FAMILIES
from lcve_deploy.exporters.checkpoints.refusal_table import REFUSED, UNKNOWN, reason_for
from tests.pages import models_page

transformers = pytest.importorskip("transformers")


def test_no_class_is_without_a_reason() -> None:
    listed = models_page.classes()
    assert len(listed) > 200
    unexplained = [one for one in listed if one.model_type not in FAMILIES and reason_for(one.model_type) is UNKNOWN]
    assert not unexplained


def test_no_model_type_is_both_read_and_refused() -> None:
    assert not set(FAMILIES) & set(REFUSED)


def test_the_page_is_made_from_the_tables() -> None:
    """If this fails: ``python -m tests.pages.models_page``."""
    if models_page.stated_version() != transformers.__version__:
        pytest.skip(f"the page lists the classes of transformers {models_page.stated_version()}")
    assert models_page.PAGE.read_text(encoding="utf-8") == models_page.render()


@pytest.mark.parametrize(
    ("model_type", "name", "reason"),
    [
        ("vit", "ViTForMaskedImageModeling", "restores masked parts"),
        ("beit", "BeitForSemanticSegmentation", "overlapping convolutions"),
        ("dinov2", "Dinov2Backbone", "maps of several blocks"),
        ("dinov2", "SomeOtherClass", "does not read this class"),
        ("hiera", "HieraForImageClassification", "overlapping convolution or pooling"),
        ("qwen2_5_vl_vision", "Qwen2_5_VisionTransformerPretrainedModel", "blocks of 2 x 2"),
        ("a_new_vision_model", "ANewVisionModel", "image part of a language model"),
    ],
)
def test_a_folder_is_refused_by_its_class(tmp_path: Path, model_type: str, name: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": [name]}))
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        load_checkpoint(tmp_path)
    assert "docs/reference/models.md" in caught.value.hint
