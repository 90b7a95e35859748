"""Table of the families of Hugging Face folders that read images, which are clips of one frame.

Source: Hugging Face transformers, ``configuration_*.py`` and ``modeling_*.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from lcve_deploy.errors import UnsupportedModelError
from lcve_deploy.exporters.checkpoints import image_layouts as layouts
from lcve_deploy.exporters.checkpoints.folders import Architecture, Family, Fields, Input, Output
from lcve_deploy.exporters.checkpoints.image_tables import (
    antialiased,
    bicubic,
    fitted_table,
    linear_kernel,
    patch_weights,
    relative_positions,
    rotated,
    siglip_pooler,
    two_heads,
)
from lcve_deploy.exporters.checkpoints.settings import Settings, flag, number, pair, whole
from lcve_deploy.model.transformer import IMAGENET, Activation, FinalNorm, Normalisation, Pooler, Readout

__all__ = ["IMAGE_FAMILIES"]

_HALVES: Final = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
_OPENAI: Final = Normalisation(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))

_FRAME: Final = {"num_frames": 1, "tubelet_size": 1}
_SIZES: Final = {
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "qkv_bias": True,
}


def _constant(**fields: Any) -> Callable[[Settings], Fields]:
    """Return a function that gives the same fields for all settings."""
    return lambda settings: fields


# ViT and its relatives: a class token, the norm before or after pooling

_CLASS_TOKEN: Final = _constant(readout=Readout.CLASS_TOKEN, prefix=1)
_TOWER: Final = Architecture(fields=_constant(head=False), output=Output.FIRST_TOKEN)
_VIT_UNUSED: Final = (r"(\w+\.)?embeddings\.mask_token", r"(\w+\.)?pooler\.dense\.(weight|bias)")

_VIT: Final = Family(
    architectures={"ViTForImageClassification": Architecture(), "ViTModel": _TOWER},
    rules=layouts.VIT,
    processor="ViTImageProcessor",
    defaults={**_SIZES, "layer_norm_eps": 1e-12},
    normalisation=_HALVES,
    fields=_CLASS_TOKEN,
    fixed=_FRAME,
    unused=_VIT_UNUSED,
    input=Input.IMAGE,
)
_DEIT: Final = replace(
    _VIT,
    architectures={
        "DeiTForImageClassification": Architecture(),
        "DeiTForImageClassificationWithTeacher": Architecture(
            fields=_constant(readout=Readout.PREFIX_PAIR, final_norm=FinalNorm.BEFORE), prepare=(two_heads,)
        ),
        "DeiTModel": _TOWER,
    },
    rules=layouts.DEIT,
    processor="DeiTImageProcessor",
    fields=_constant(readout=Readout.CLASS_TOKEN, prefix=2),
)
_MSN: Final = replace(
    _VIT,
    architectures={"ViTMSNForImageClassification": Architecture(), "ViTMSNModel": _TOWER},
    defaults={**_SIZES, "layer_norm_eps": 1e-6},
)
_IJEPA: Final = replace(
    _VIT,
    architectures={
        "IJepaForImageClassification": Architecture(),
        "IJepaModel": Architecture(fields=_constant(head=False), output=Output.MEAN),
    },
    rules=layouts.IJEPA,
    fields=_constant(readout=Readout.MEAN, final_norm=FinalNorm.BEFORE),
)

# BEiT and data2vec: relative positions


def _beit_fields(settings: Settings) -> Fields:
    own, shared = flag(settings, "use_relative_position_bias"), flag(settings, "use_shared_relative_position_bias")
    if own and shared:
        raise UnsupportedModelError(
            "relative positions that are shared and those of each block are not supported together"
        )
    (height, width), (rows, columns) = pair(settings, "image_size"), pair(settings, "patch_size")
    if height != width and flag(settings, "use_absolute_position_embeddings"):
        raise UnsupportedModelError(
            f"transformers interpolates the positions of images of {height} x {width} as if they were those of a "
            "square, which is not supported"
        )
    buckets = (2 * (height // rows) - 1) * (2 * (width // columns) - 1) + 3
    return {
        "prefix": 1,
        "readout": Readout.CUBES_MEAN if flag(settings, "use_mean_pooling") else Readout.CLASS_TOKEN,
        "positions": flag(settings, "use_absolute_position_embeddings"),
        "relative_buckets": buckets if own or shared else 0,
        "layer_scale": number(settings, "layer_scale_init_value", below=math.inf) > 0,
    }


_BEIT: Final = Family(
    architectures={
        "BeitForImageClassification": Architecture(),
        "BeitModel": Architecture(fields=_constant(head=False), output=Output.POOLED),
    },
    rules=layouts.BEIT,
    processor="BeitImageProcessor",
    defaults={
        **_SIZES,
        "layer_norm_eps": 1e-12,
        "use_absolute_position_embeddings": False,
        "use_relative_position_bias": False,
        "use_shared_relative_position_bias": False,
        "layer_scale_init_value": 0.1,
        "use_mean_pooling": True,
    },
    normalisation=_HALVES,
    fields=_beit_fields,
    fixed=_FRAME,
    finish=(relative_positions,),
    unused=(r"(\w+\.)?embeddings\.mask_token", r".*relative_position_index"),
    input=Input.IMAGE,
)
_DATA2VEC: Final = replace(
    _BEIT,
    architectures={"Data2VecVisionForImageClassification": Architecture()},
    rules=layouts.DATA2VEC,
)

# DINOv2 and DINOv3: registers, gated MLPs, any size

_MAX_RATIO: Final = 1000


def _dino_fields(settings: Settings, gated: str) -> Fields:
    return {
        "prefix": 1 + whole({"num_register_tokens": 0, **settings}, "num_register_tokens", least=0),
        "readout": Readout.CLASS_AND_MEAN,
        "final_norm": FinalNorm.BEFORE,
        "layer_scale": True,
        "gated": flag(settings, gated),
    }


def _dinov2_fields(settings: Settings) -> Fields:
    fields = _dino_fields(settings, "use_swiglu_ffn")
    return {**fields, "activation": Activation.SILU} if fields["gated"] else fields


def _dinov2_hidden(settings: Settings) -> int:
    """Return the width of the MLP; a gated one has two thirds of it, rounded up to a multiple of 8."""
    hidden = int(whole(settings, "hidden_size") * number(settings, "mlp_ratio", below=_MAX_RATIO))
    return (int(hidden * 2 / 3) + 7) // 8 * 8 if flag(settings, "use_swiglu_ffn") else hidden


def _dinov3_fields(settings: Settings) -> Fields:
    biased = any(flag(settings, f"{part}_bias") for part in ("query", "key", "value"))
    return {**_dino_fields(settings, "use_gated_mlp"), "positions": False, "rotary": True, "qkv_bias": biased}


_DINO_TOWER: Final = Architecture(
    fields=_constant(head=False, readout=Readout.CLASS_TOKEN, final_norm=FinalNorm.AFTER), output=Output.POOLED
)
_DINOV2: Final = Family(
    architectures={"Dinov2ForImageClassification": Architecture(), "Dinov2Model": _DINO_TOWER},
    rules=layouts.DINOV2,
    processor="BitImageProcessor",
    defaults={
        **{name: value for name, value in _SIZES.items() if name != "intermediate_size"},
        "patch_size": 14,
        "mlp_ratio": 4,
        "layer_norm_eps": 1e-6,
        "use_swiglu_ffn": False,
    },
    normalisation=IMAGENET,
    fields=_dinov2_fields,
    fixed={**_FRAME, "num_register_tokens": 0},
    implied={"intermediate_size": _dinov2_hidden},
    prepare=(fitted_table(bicubic, rows=1),),
    unused=(r"(\w+\.)?embeddings\.mask_token",),
    resizable=True,
    input=Input.IMAGE,
)
_DINOV2_REGISTERS: Final = replace(
    _DINOV2,
    architectures={
        "Dinov2WithRegistersForImageClassification": Architecture(),
        "Dinov2WithRegistersModel": _DINO_TOWER,
    },
    rules=layouts.DINOV2_REGISTERS,
    fixed=_FRAME,
    defaults={**_DINOV2.defaults, "patch_size": 16, "num_register_tokens": 4},
    prepare=(fitted_table(antialiased, rows=1),),
)
_DINOV3: Final = replace(
    _DINOV2,
    architectures={"DINOv3ViTModel": _DINO_TOWER},
    rules=layouts.DINOV3,
    fixed=_FRAME,
    processor="DINOv3ViTImageProcessor",
    defaults={
        **_SIZES,
        **{"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "layer_norm_eps": 1e-5},
        **{f"{part}_bias": True for part in ("query", "value", "proj", "mlp")},
        **{"key_bias": False, "use_gated_mlp": False, "rope_theta": 100.0},
    },
    fields=_dinov3_fields,
    implied={},
    switches={
        "query_bias": ("q_proj.bias",),
        "key_bias": ("k_proj.bias",),
        "value_bias": ("v_proj.bias",),
        "proj_bias": ("o_proj.bias",),
        "mlp_bias": ("up_proj.bias", "gate_proj.bias", "down_proj.bias"),
    },
    prepare=(),
    finish=(rotated,),
)

# CLIP and SigLIP: towers of two-tower models, and classifiers on them


def _projected(settings: Settings) -> Fields:
    """Read the width of the projection, of the tower or of the whole model."""
    outer = settings["outer"]
    name = "projection_dim"
    return {**_CLIP_VECTOR, "projection": whole({name: 512, **(outer if "vision_config" in outer else settings)}, name)}


_CLIP_VECTOR: Final = {"head": False, "readout": Readout.CLASS_TOKEN, "final_norm": FinalNorm.AFTER}
_TEXT: Final = (r"text_model\..*", r"text_projection\.weight", r"logit_(scale|bias)", r".*position_ids")
_CLIP: Final = Family(
    architectures={
        "CLIPForImageClassification": Architecture(unused=(r"(vision_model\.)?post_layernorm\.\w+",)),
        "CLIPVisionModel": Architecture(fields=_constant(**_CLIP_VECTOR), output=Output.POOLED),
        "CLIPVisionModelWithProjection": Architecture(
            fields=_projected, output=Output.EMBEDDING, rules=layouts.CLIP_PROJECTION
        ),
        "CLIPModel": Architecture(
            fields=_projected, output=Output.IMAGE_FEATURES, rules=layouts.CLIP_PROJECTION, unused=_TEXT
        ),
    },
    rules=layouts.CLIP,
    processor="CLIPImageProcessor",
    defaults={**_SIZES, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    normalisation=_OPENAI,
    fields=_constant(prefix=1, embedding_norm=True, readout=Readout.CUBES_MEAN, final_norm=FinalNorm.NONE),
    fixed=_FRAME,
    section="vision_config",
    override="vision_config_dict",
    unused=(r".*position_ids",),
    input=Input.IMAGE,
    raw_tokens=True,
)
_METACLIP: Final = replace(
    _CLIP, architectures={name.replace("CLIP", "MetaClip2", 1): row for name, row in _CLIP.architectures.items()}
)


def _siglip_vector(settings: Settings) -> Fields:
    if not flag(settings, "vision_use_head"):
        raise UnsupportedModelError(
            "vision_use_head is false, so the model has no pooled vector", hint="use a model with a pooling head"
        )
    pooler = Pooler(
        heads=whole(settings, "num_attention_heads"),
        hidden=whole(settings, "intermediate_size"),
        eps=settings["layer_norm_eps"],
    )
    return {"head": False, "readout": Readout.ATTENTION, "pooler": pooler}


def _siglip_vectors(name: str) -> dict[str, Architecture]:
    tower = Architecture(
        fields=_siglip_vector, output=Output.POOLED, rules=layouts.SIGLIP_POOLER, prepare=(siglip_pooler,)
    )
    return {
        f"{name}ForImageClassification": Architecture(unused=(r"(vision_model\.)?head\..*",)),
        f"{name}VisionModel": tower,
        f"{name}Model": replace(tower, output=Output.IMAGE_FEATURES, unused=_TEXT),
    }


_SIGLIP: Final = replace(
    _CLIP,
    architectures=_siglip_vectors("Siglip"),
    rules=layouts.SIGLIP,
    processor="SiglipImageProcessor",
    override="",
    defaults={**_SIZES, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vision_use_head": True},
    normalisation=_HALVES,
    fields=_constant(readout=Readout.MEAN, final_norm=FinalNorm.BEFORE),
    raw_tokens=False,
)
_SIGLIP2: Final = replace(
    _SIGLIP,
    architectures=_siglip_vectors("Siglip2"),
    processor="Siglip2ImageProcessor",
    defaults={**{k: v for k, v in _SIGLIP.defaults.items() if k != "image_size"}, "num_patches": 256},
    implied={"image_size": lambda s: math.isqrt(whole(s, "num_patches")) * whole(s, "patch_size")},
    prepare=(patch_weights, fitted_table(linear_kernel, rows=0)),
    resizable=True,
    input=Input.PATCHES,
)


def _tower(family: Family) -> Family:
    """Return the row of the vision tower alone, which is another model type."""
    towers = {name: row for name, row in family.architectures.items() if "Vision" in name}
    return replace(family, architectures=towers, sectionless=True, override="")


IMAGE_FAMILIES: Final = {
    "vit": _VIT,
    "deit": _DEIT,
    "vit_msn": _MSN,
    "ijepa": _IJEPA,
    "beit": _BEIT,
    "data2vec-vision": _DATA2VEC,
    "dinov2": _DINOV2,
    "dinov2_with_registers": _DINOV2_REGISTERS,
    "dinov3_vit": _DINOV3,
    "clip": _CLIP,
    "clip_vision_model": _tower(_CLIP),
    "metaclip_2": _METACLIP,
    "metaclip_2_vision_model": _tower(_METACLIP),
    "siglip": _SIGLIP,
    "siglip_vision_model": _tower(_SIGLIP),
    "siglip2": _SIGLIP2,
    "siglip2_vision_model": _tower(_SIGLIP2),
}
