"""Table of the families of Hugging Face folders that classify videos.

Source: Hugging Face transformers, ``configuration_*.py`` and ``modeling_*.py``.
"""

from __future__ import annotations

from typing import Final

from lcve_deploy.exporters.checkpoints.folders import Architecture, Family, Fields, Weights
from lcve_deploy.exporters.checkpoints.layouts import HF_VIDEOMAE, HF_VIVIT
from lcve_deploy.exporters.checkpoints.settings import Settings, flag
from lcve_deploy.model.transformer import IMAGENET, Readout, TransformerConfig, sinusoid_table

__all__ = ["VIDEO_FAMILIES"]

_COMMON: Final = {
    "image_size": 224,
    "num_channels": 3,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "qkv_bias": True,
}
_MEAN_EPS: Final = 1e-5
"""VideoMAE's norm after the mean is created with torch's default, whatever ``layer_norm_eps`` says."""


def _videomae(settings: Settings) -> Fields:
    mean = flag(settings, "use_mean_pooling")
    return {"readout": Readout.MEAN, "final_eps": _MEAN_EPS} if mean else {"readout": Readout.FIRST_CUBE}


def _vivit(settings: Settings) -> Fields:
    return {"readout": Readout.CLASS_TOKEN, "prefix": 1}


def _sinusoid(weights: Weights, config: TransformerConfig, settings: Settings) -> Weights:
    return {**weights, "positional_encoding": sinusoid_table(config.geometry.cubes, config.width)}


VIDEO_FAMILIES: Final = {
    "videomae": Family(
        architectures={"VideoMAEForVideoClassification": Architecture()},
        rules=HF_VIDEOMAE,
        processor="VideoMAEImageProcessor",
        defaults={
            **_COMMON,
            "num_frames": 16,
            "tubelet_size": 2,
            "patch_size": 16,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "use_mean_pooling": True,
        },
        normalisation=IMAGENET,
        fields=_videomae,
        finish=(_sinusoid,),
    ),
    "vivit": Family(
        architectures={"VivitForVideoClassification": Architecture()},
        rules=HF_VIVIT,
        processor="VivitImageProcessor",
        defaults={
            **_COMMON,
            "num_frames": 32,
            "tubelet_size": [2, 16, 16],
            "hidden_act": "gelu_fast",
            "layer_norm_eps": 1e-6,
        },
        normalisation=None,
        fields=_vivit,
    ),
}
