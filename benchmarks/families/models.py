"""Full-size models of some families with random weights, as transformers saves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lcve_deploy.exporters.checkpoints import CheckpointOptions

__all__ = ["MODELS", "Model", "save_folder"]

_SEED: Final = 0
_STD: Final = 0.04
_DEPTH: Final = 24
_LARGE: Final = {"hidden_size": 1024, "num_hidden_layers": _DEPTH, "num_attention_heads": 16}
_IMAGE: Final = {**_LARGE, "patch_size": 16, "num_labels": 1000}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of full size.

    Args:
        title: name on the page.
        kind: class of transformers.
        settings: settings of its configuration.
        options: options of the export.
        rounds: rounds of the comparison with the plain model.
    """

    title: str
    kind: str
    settings: Mapping[str, Any]
    options: CheckpointOptions = field(default_factory=CheckpointOptions)
    rounds: int = 8


def _vjepa2(frames: int, rounds: int, *, blocks: int = _DEPTH, pooler_blocks: int = 3) -> Model:
    settings = {
        **_LARGE,
        "num_hidden_layers": blocks,
        "num_pooler_layers": pooler_blocks,
        "pred_num_hidden_layers": 1,  # not used
        "frames_per_clip": 64,
        "crop_size": 256,
        "num_labels": 174,
    }
    short = f", {blocks} of {_DEPTH} blocks, and {pooler_blocks} of 3 of the pooler" if blocks < _DEPTH else ""
    return Model(
        title=f"V-JEPA 2 ViT-L, {frames} frames{short}",
        kind="VJEPA2ForVideoClassification",
        settings=settings,
        options=CheckpointOptions(frames=frames),
        rounds=rounds,
    )


MODELS: Final = {
    "vit": Model(
        title="ViT-L, 224 pixels",
        kind="ViTForImageClassification",
        settings={**_IMAGE, "intermediate_size": 4096, "image_size": 224},
    ),
    "dinov2": Model(
        title="DINOv2-L, 224 pixels",
        kind="Dinov2ForImageClassification",
        settings={**_IMAGE, "patch_size": 14, "image_size": 518},
        options=CheckpointOptions(size=224),
    ),
    "siglip": Model(
        title="SigLIP-L, 256 pixels",
        kind="SiglipForImageClassification",
        settings={
            "vision_config": {**_LARGE, "intermediate_size": 4096, "image_size": 256, "patch_size": 16},
            "text_config": {
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
            },
            "num_labels": 1000,
        },
    ),
    "vjepa2-16": _vjepa2(16, rounds=4),
    "vjepa2-64-short": _vjepa2(64, rounds=4, blocks=2, pooler_blocks=1),
    "vjepa2-64": _vjepa2(64, rounds=1),
}


def save_folder(model: Model, folder: Path) -> None:
    """Write a folder with random weights, large enough that positions and pixels matter."""
    import torch
    import transformers

    torch.manual_seed(_SEED)
    config = getattr(transformers, model.kind.split("For")[0] + "Config")(**model.settings)
    with torch.device("meta"):
        made = getattr(transformers, model.kind)(config)
    made.to_empty(device="cpu")
    for name, parameter in made.named_parameters():
        table = any(part in name for part in ("position_embedding", "token"))
        torch.nn.init.normal_(parameter, std=0.5 if table else _STD)
        if ("norm" in name and name.endswith("weight")) or "lambda" in name:
            parameter.data += 1
    made.save_pretrained(folder)
