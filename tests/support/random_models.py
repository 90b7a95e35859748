"""Random settings for every class of transformers that is read, from seeds.

Each class has options with several values. A seed picks one of each, so that settings meet that no released model
combines.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np

__all__ = ["ARCHITECTURES", "random_settings"]

Options = dict[str, list[Any]]

_ACTIVATIONS: Final = ["gelu", "gelu_fast", "gelu_new", "quick_gelu", "relu", "silu", "gelu_pytorch_tanh"]
_BASE: Final[Options] = {
    "hidden_size": [24, 48],
    "num_hidden_layers": [1, 3],
    "num_attention_heads": [1, 2, 6],
    "image_size": [4, 12, 16, [8, 20], [20, 4]],
    "patch_size": [4],
    "hidden_act": _ACTIVATIONS,
    "layer_norm_eps": [0.0, 1e-12, 1e-5, 0.3],
}
_PLAIN: Final[Options] = {**_BASE, "intermediate_size": [1, 40], "qkv_bias": [True, False]}
_LABELS: Final[Options] = {"num_labels": [1, 2, 7]}
_BEIT: Final[Options] = {
    **_BASE,
    "intermediate_size": [40],
    "image_size": [4, 12, 16],
    "positions": [
        {"use_relative_position_bias": True},
        {"use_relative_position_bias": True, "image_size": [8, 20]},
        {"use_shared_relative_position_bias": True, "image_size": [20, 4]},
        {"use_shared_relative_position_bias": True},
        {"use_absolute_position_embeddings": True},
        {"use_absolute_position_embeddings": True, "use_relative_position_bias": True},
    ],
    "layer_scale_init_value": [0.0, 0.1, 1.0],
    "use_mean_pooling": [True, False],
    "use_mask_token": [True, False],
    "drop_path_rate": [0.0, 0.5],
}
_DINOV2: Final[Options] = {
    **_BASE,
    "qkv_bias": [True, False],
    "mlp_ratio": [1, 3, 4],
    "use_swiglu_ffn": [True, False],
    "layerscale_value": [0.0, 1.0],
    "drop_path_rate": [0.0, 0.5],
    "apply_layernorm": [True, False],
}
_REGISTERS: Final[Options] = {"num_register_tokens": [0, 1, 5]}
_DINOV3: Final[Options] = {
    **_BASE,
    **_REGISTERS,
    **{f"{part}_bias": [True, False] for part in ("query", "key", "value", "proj", "mlp")},
    "intermediate_size": [40],
    "use_gated_mlp": [True, False],
    "rope_theta": [1.0, 100.0, 1e4],
    "pos_embed_rescale": [None, 2.0],
    "pos_embed_shift": [None, 0.5],
    "pos_embed_jitter": [None, 1.5],
}
_CLIP: Final[Options] = {**_BASE, "intermediate_size": [40], "image_size": [8, 16], "projection_dim": [3, 30]}
_SIGLIP2: Final[Options] = {
    **{name: values for name, values in _CLIP.items() if name not in ("image_size", "projection_dim")},
    "num_patches": [1, 9, 16],
}
_TIMESFORMER: Final[Options] = {
    **_PLAIN,
    "image_size": [8, 16],
    "num_frames": [1, 3, 4],
    "attention_type": ["joint_space_time"],
}
_VJEPA2: Final[Options] = {
    **{name: values for name, values in _BASE.items() if name not in ("image_size", "hidden_act")},
    "hidden_size": [24, 36],
    "num_attention_heads": [1, 2, 3],
    "hidden_act": _ACTIVATIONS,
    "crop_size": [8, 16],
    "frames_per_clip": [4, 8],
    "tubelet_size": [1, 2, 4],
    "mlp_ratio": [1.5, 4.0],
    "num_pooler_layers": [0, 1, 2],
    "qkv_bias": [True],
    "pred_hidden_size": [24],
    "pred_num_attention_heads": [2],
    "pred_num_hidden_layers": [1],
    "pred_num_mask_tokens": [1],
}

ARCHITECTURES: Final[dict[str, Options]] = {
    "ViTForImageClassification": {**_PLAIN, **_LABELS},
    "ViTModel": _PLAIN,
    "DeiTForImageClassification": {**_PLAIN, **_LABELS},
    "DeiTForImageClassificationWithTeacher": {**_PLAIN, **_LABELS},
    "ViTMSNForImageClassification": {**_PLAIN, **_LABELS},
    "IJepaForImageClassification": {**_PLAIN, **_LABELS},
    "IJepaModel": _PLAIN,
    "BeitForImageClassification": {**_BEIT, **_LABELS},
    "BeitModel": _BEIT,
    "Data2VecVisionForImageClassification": {**_BEIT, **_LABELS},
    "Dinov2ForImageClassification": {**_DINOV2, **_LABELS, "image_size": [4, 12, 16]},
    "Dinov2WithRegistersForImageClassification": {
        **_DINOV2,
        **_REGISTERS,
        **_LABELS,
        "image_size": [4, 12, 16],
    },
    "DINOv3ViTModel": {**_DINOV3, "hidden_size": [24, 48], "num_attention_heads": [1, 2, 3]},
    "CLIPForImageClassification": {**_CLIP, **_LABELS},
    "CLIPVisionModelWithProjection": _CLIP,
    "CLIPModel": _CLIP,
    "MetaClip2Model": _CLIP,
    "SiglipForImageClassification": {**_CLIP, **_LABELS},
    "SiglipVisionModel": _CLIP,
    "Siglip2ForImageClassification": {**_SIGLIP2, **_LABELS},
    "Siglip2Model": _SIGLIP2,
    "TimesformerForVideoClassification": {**_TIMESFORMER, **_LABELS},
    "VJEPA2ForVideoClassification": {**_VJEPA2, **_LABELS},
    "VJEPA2Model": _VJEPA2,
}
"""Options of each class. An option whose values are objects picks several settings at once."""

_OUTER: Final = ("num_labels", "projection_dim")
_WHOLE: Final = ("CLIPForImageClassification", "CLIPModel", "MetaClip2Model", "SiglipForImageClassification")
_TWO_TOWERS: Final = (*_WHOLE, "Siglip2ForImageClassification", "Siglip2Model")


def random_settings(architecture: str, seed: int) -> dict[str, Any]:
    """Return settings of a class: one value of each of its options."""
    generator = np.random.default_rng([zlib.crc32(architecture.encode()), seed])
    settings: dict[str, Any] = {}
    for name, values in ARCHITECTURES[architecture].items():
        value = values[int(generator.integers(len(values)))]
        settings |= value if isinstance(value, dict) else {name: value}
    if architecture not in _TWO_TOWERS:
        return settings
    inner = {name: value for name, value in settings.items() if name not in _OUTER}
    return {"vision_config": inner, **{name: settings[name] for name in _OUTER if name in settings}}
