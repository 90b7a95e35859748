"""Tiny random models of every image class that is read, as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

__all__ = ["CASES", "save_image_model", "save_model"]

_SMALL: Final = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
_WIDE: Final = {"hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 5, "image_size": 24, "patch_size": 8}
_OBLONG: Final = {**_SMALL, "image_size": [12, 20]}
_LABELS: Final = {"num_labels": 7}
_RELATIVE: Final = {"use_relative_position_bias": True, "layer_scale_init_value": 0.1}
_REGISTERED: Final = {"num_register_tokens": 3}
_GATED: Final = {"use_swiglu_ffn": True, "mlp_ratio": 3}
_PATCHES: Final = {k: v for k, v in _SMALL.items() if k != "image_size"}

CASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "vit": ("ViTForImageClassification", {**_SMALL, **_LABELS}),
    "vit without biases": ("ViTForImageClassification", {**_WIDE, "qkv_bias": False, "hidden_act": "relu"}),
    "vit, oblong": ("ViTForImageClassification", _OBLONG),
    "vit tower": ("ViTModel", _WIDE),
    "deit": ("DeiTForImageClassification", {**_WIDE, **_LABELS}),
    "deit with teacher": ("DeiTForImageClassificationWithTeacher", {**_SMALL, **_LABELS}),
    "deit tower": ("DeiTModel", _SMALL),
    "vit_msn": ("ViTMSNForImageClassification", {**_WIDE, **_LABELS}),
    "vit_msn tower": ("ViTMSNModel", _SMALL),
    "ijepa": ("IJepaForImageClassification", {**_WIDE, **_LABELS}),
    "ijepa tower": ("IJepaModel", _SMALL),
    "beit": ("BeitForImageClassification", {**_WIDE, **_LABELS, **_RELATIVE}),
    "beit, oblong": ("BeitForImageClassification", {**_OBLONG, **_RELATIVE}),
    "beit, shared": ("BeitForImageClassification", {**_SMALL, "use_shared_relative_position_bias": True}),
    "beit, class token": (
        "BeitForImageClassification",
        {**_SMALL, **_RELATIVE, "use_mean_pooling": False, "layer_scale_init_value": 0.0},
    ),
    "beit, table": ("BeitForImageClassification", {**_SMALL, "use_absolute_position_embeddings": True}),
    "beit tower": ("BeitModel", {**_SMALL, **_RELATIVE, "use_mask_token": True}),
    "data2vec": ("Data2VecVisionForImageClassification", {**_WIDE, **_LABELS, **_RELATIVE}),
    "data2vec, shared": (
        "Data2VecVisionForImageClassification",
        {**_SMALL, "use_shared_relative_position_bias": True, "use_mean_pooling": False},
    ),
    "dinov2": ("Dinov2ForImageClassification", {**_WIDE, **_LABELS}),
    "dinov2, gated": ("Dinov2ForImageClassification", {**_SMALL, **_GATED}),
    "dinov2 tower": ("Dinov2Model", {**_SMALL, **_GATED}),
    "dinov2 with registers": ("Dinov2WithRegistersForImageClassification", {**_WIDE, **_LABELS, **_REGISTERED}),
    "dinov2 with registers tower": ("Dinov2WithRegistersModel", {**_SMALL, **_GATED, "num_register_tokens": 1}),
    "dinov3": ("DINOv3ViTModel", {**_WIDE, **_REGISTERED, "intermediate_size": 56}),
    "dinov3, gated": (
        "DINOv3ViTModel",
        {**_SMALL, "use_gated_mlp": True, "hidden_act": "silu", "intermediate_size": 32, "rope_theta": 50.0},
    ),
    "dinov3, some biases": (
        "DINOv3ViTModel",
        {**_SMALL, "query_bias": False, "key_bias": True, "proj_bias": False, "mlp_bias": False},
    ),
    "clip": ("CLIPForImageClassification", {"vision_config": _SMALL, **_LABELS}),
    "clip tower": ("CLIPVisionModel", _WIDE),
    "clip projected": ("CLIPVisionModelWithProjection", {**_SMALL, "projection_dim": 10}),
    "clip whole": ("CLIPModel", {"vision_config": _SMALL, "projection_dim": 14}),
    "metaclip_2": ("MetaClip2ForImageClassification", {"vision_config": _WIDE, **_LABELS}),
    "metaclip_2 projected": ("MetaClip2VisionModelWithProjection", {**_SMALL, "projection_dim": 10}),
    "metaclip_2 whole": ("MetaClip2Model", {"vision_config": _SMALL, "projection_dim": 14}),
    "siglip": ("SiglipForImageClassification", {"vision_config": _WIDE, **_LABELS}),
    "siglip tower": ("SiglipVisionModel", _WIDE),
    "siglip whole": ("SiglipModel", {"vision_config": _SMALL}),
    "siglip2": ("Siglip2ForImageClassification", {"vision_config": {**_PATCHES, "num_patches": 9}, **_LABELS}),
    "siglip2 tower": ("Siglip2VisionModel", {**_PATCHES, "num_patches": 16}),
    "siglip2 whole": ("Siglip2Model", {"vision_config": {**_PATCHES, "num_patches": 16}}),
}
"""Classes and settings by a name of the case. Depths, widths, heads, sizes and registers are those of no oracle."""

_TEXT: Final = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 8,
}


def save_image_model(folder: Path, case: str, *, seed: int = 0, old_names: bool = True) -> Path:
    """Save a model whose every weight is random.

    Args:
        folder: folder to write.
        case: one of ``CASES``.
        seed: seed of the weights.
        old_names: whether weights have the names of version 4, as transformers still writes them.
    """
    return save_model(folder, *CASES[case], seed=seed, old_names=old_names)


def save_model(
    folder: Path,
    architecture: str,
    settings: dict[str, Any],
    *,
    seed: int = 0,
    old_names: bool = True,
    dtype: str = "float32",
) -> Path:
    """Save a model of a class of transformers with these settings, whose every weight is random."""
    import torch
    import transformers

    kind = getattr(transformers, architecture)
    if "vision_config" in settings:
        vision = {"intermediate_size": 2 * settings["vision_config"]["hidden_size"], **settings["vision_config"]}
        settings = {**settings, "vision_config": vision, "text_config": _TEXT}
    elif "mlp_ratio" not in settings:
        settings = {"intermediate_size": 2 * settings["hidden_size"], **settings}
    model = kind(kind.config_class(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 + (0.7 if tensor.ndim == 1 else 0))
    model.to(getattr(torch, dtype)).save_pretrained(folder, save_original_format=old_names)
    return folder
