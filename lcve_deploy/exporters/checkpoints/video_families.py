"""Table of the families of Hugging Face folders that classify videos.

Source: Hugging Face transformers, ``configuration_*.py`` and ``modeling_*.py``.
"""

from __future__ import annotations

from typing import Final

from lcve_deploy.errors import UnsupportedModelError
from lcve_deploy.exporters.checkpoints.folders import Architecture, Family, Fields, Input, Output, Weights
from lcve_deploy.exporters.checkpoints.layouts import HF_VIDEOMAE, HF_VIVIT
from lcve_deploy.exporters.checkpoints.refusal_table import DIVIDED
from lcve_deploy.exporters.checkpoints.settings import Settings, flag, number, whole
from lcve_deploy.exporters.checkpoints.video_layouts import TIMESFORMER, VJEPA2, VJEPA2_POOLER
from lcve_deploy.exporters.checkpoints.video_tables import space_and_time, vjepa2_query, vjepa2_tables
from lcve_deploy.model.config import FinalNorm, Pooler
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
_MAX_RATIO: Final = 1000
_MEAN_EPS: Final = 1e-5
"""VideoMAE's norm after the mean is created with torch's default, whatever ``layer_norm_eps`` says."""


def _videomae(settings: Settings) -> Fields:
    mean = flag(settings, "use_mean_pooling")
    return {"readout": Readout.MEAN, "final_eps": _MEAN_EPS} if mean else {"readout": Readout.FIRST_CUBE}


def _vivit(settings: Settings) -> Fields:
    return {"readout": Readout.CLASS_TOKEN, "prefix": 1}


def _sinusoid(weights: Weights, config: TransformerConfig, settings: Settings) -> Weights:
    return {**weights, "positional_encoding": sinusoid_table(config.geometry.cubes, config.width)}


_TIMESFORMER_REFUSED: Final = {
    "divided_space_time": DIVIDED.text,
    "space_only": "it classifies every frame by itself, so a clip has no single answer",
}


def _timesformer(settings: Settings) -> Fields:
    kind = str(settings["attention_type"])
    if kind != "joint_space_time":
        reason = _TIMESFORMER_REFUSED.get(kind, "this attention_type is unknown")
        raise UnsupportedModelError(
            f"a TimeSformer with the attention {kind[:80]!r} cannot be exported: {reason}",
            hint="only joint_space_time is supported; see docs/reference/checkpoints.md",
        )
    return {"readout": Readout.CLASS_TOKEN, "prefix": 1}


def _vjepa2_pooler(settings: Settings) -> Fields:
    pooler = Pooler(
        heads=whole(settings, "num_attention_heads"),
        hidden=4 * whole(settings, "hidden_size"),  # whatever mlp_ratio is
        depth=whole(settings, "num_pooler_layers", least=0),
        input_norm=True,
        residual=True,
        projection=False,
        eps=number(settings, "layer_norm_eps"),
    )
    return {"readout": Readout.ATTENTION, "pooler": pooler}


def _vjepa2_hidden(settings: Settings) -> int:
    return int(whole(settings, "hidden_size") * number(settings, "mlp_ratio", below=_MAX_RATIO))


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
    "timesformer": Family(
        architectures={
            "TimesformerForVideoClassification": Architecture(),
            "TimesformerModel": Architecture(fields=lambda _: {"head": False}, output=Output.FIRST_TOKEN),
        },
        rules=TIMESFORMER,
        processor="VideoMAEImageProcessor",
        defaults={
            **_COMMON,
            "num_frames": 8,
            "patch_size": 16,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "attention_type": "divided_space_time",
        },
        fixed={"tubelet_size": 1},
        normalisation=None,
        fields=_timesformer,
        prepare=(space_and_time,),
    ),
    "vjepa2": Family(
        architectures={
            "VJEPA2ForVideoClassification": Architecture(
                fields=_vjepa2_pooler, rules=VJEPA2_POOLER, prepare=(vjepa2_query,)
            ),
            "VJEPA2Model": Architecture(
                fields=lambda _: {"head": False, "readout": Readout.MEAN}, output=Output.ENCODER_MEAN
            ),
        },
        rules=VJEPA2,
        processor="VJEPA2VideoProcessor",
        defaults={
            "crop_size": 256,
            "in_chans": 3,
            "frames_per_clip": 64,
            "tubelet_size": 2,
            "patch_size": 16,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "mlp_ratio": 4.0,
            "num_pooler_layers": 3,
            "qkv_bias": True,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
        },
        implied={
            "image_size": lambda settings: whole(settings, "crop_size"),
            "patch_size": lambda settings: whole(settings, "patch_size"),
            "num_channels": lambda settings: whole(settings, "in_chans"),
            "num_frames": lambda settings: whole(settings, "frames_per_clip"),
            "intermediate_size": _vjepa2_hidden,
        },
        normalisation=IMAGENET,
        fields=lambda _: {"positions": False, "rotary": True, "final_norm": FinalNorm.BEFORE},
        finish=(vjepa2_tables,),
        unused=(r"(vjepa2\.)?predictor\..*",),
        any_length=True,
        input=Input.VIDEO,
    ),
}
