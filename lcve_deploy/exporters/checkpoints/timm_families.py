"""Table of timm's architectures that can be exported, and the names of their weights.

A row is a group of architectures that differ only in what their weights show: widths, depth, tokens, norms and the
kind of MLP. It states what weights do not show.

Source: timm, ``models/eva.py``, ``layers/attention_pool.py`` and ``layers/mlp.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from lcve_deploy.exporters.checkpoints.image_layouts import expand
from lcve_deploy.exporters.checkpoints.layouts import ZEROS
from lcve_deploy.exporters.checkpoints.rotary import Rotary, dinov3_rotary, eva_rotary
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.config import Activation

__all__ = ["ARCHITECTURES", "HEADS", "TIMM", "VIT_ARCHITECTURES", "Architecture", "find_architecture"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Facts about a group of architectures.

    Args:
        eps: epsilon of all norms.
        rotary: computes the rotary tables from geometry and head width; None without them.
        pooler_heads: heads of the attentive pooling; None if they are those of the encoder.
        activation: activation of plain MLPs.
        heads: heads by width; other widths have one for each 64 columns. None if ``HEADS`` states them.
        pool: pooling, if ``config.json`` does not state it.
        pools_prefix: whether attentive pooling reads prefix tokens too.
    """

    eps: float = 1e-6
    rotary: Callable[[ClipGeometry, int], Rotary] | None = None
    pooler_heads: int | None = None
    activation: Activation = Activation.GELU
    heads: Mapping[int, int] | None = None
    pool: str = "avg"
    pools_prefix: bool = True


def _perception_encoder(reference: int, *, offset: float = 1.0) -> Architecture:
    rotary = partial(eva_rotary, reference=reference, offset=offset, columns_first=True)
    return Architecture(eps=1e-5, rotary=rotary, pooler_heads=8)


_DINOV3: Final = Architecture(eps=1e-5, rotary=partial(dinov3_rotary, base=100.0))

_VIT: Final = Architecture(heads={1152: 16, 1280: 16, 1408: 16, 1664: 16}, pool="", pools_prefix=False)
_CLIP: Final = replace(_VIT, eps=1e-5)
_TANH: Final = replace(_VIT, activation=Activation.GELU_TANH)
_OPT: Final = replace(_TANH, heads={1536: 16})

_SIZE: Final = "(tiny|small|base|large|huge|giant|gigantic)"
_CLIP_SIZE: Final = "(xsmall|medium|betwixt|base|large|huge|giant|gigantic)"
_GAP_SIZE: Final = "(wee|little|medium|mediumd|betwixt|base|so150m2?|huge|giant)"

VIT_ARCHITECTURES: Final = {
    r"vit_base_patch16_gap_224": replace(_VIT, heads={768: 16}),
    rf"(vit|deit)_{_SIZE}_patch\d+_\d+(_miil)?": _VIT,
    r"vit_base_patch\d+_plus_\d+": _VIT,
    rf"deit3_{_SIZE.replace('(', '(medium|')}_patch\d+_\d+": _VIT,
    r"flexivit_(small|base|large)": _VIT,
    rf"vit_{_GAP_SIZE}_patch\d+(_reg\d)?_gap_\d+": _VIT,
    r"vit_(small|base|large|giant)_patch14(_reg4)?_dinov2": _VIT,
    r"vit_(base|large|so400m|giant)_patch14_reg1_tipsv2": _VIT,
    rf"vit_{_CLIP_SIZE}_patch\d+(_plus)?_clip_\d+": _CLIP,
    rf"vit_{_CLIP_SIZE}_patch\d+_clip_quickgelu_\d+": replace(_CLIP, activation=Activation.QUICK_GELU),
    r"vit_base_patch32_siglip(_gap)?_256": _TANH,
    r"vit_large_patch16_siglip(_gap)?_512": _TANH,
    r"vit_so400m_patch16_siglip(_gap)?_\d+": _TANH,
    r"vit_giantopt_patch16_siglip(_gap)?_\d+": _OPT,
    r"vit_(base|large)_patch16_siglip(_gap)?_\d+": _VIT,
    r"vit_so400m_patch14_siglip(_gap)?_\d+": _VIT,
    r"vit_small_patch16_36x1_224|eva_large_patch14_\d+|vit_intern300m_patch14_448": _VIT,
    r"vit_(base|large|huge|giant|so400m)_patch16_radio_v\d": _VIT,
    r"beit3_(base|large|giant)_patch\d+_\d+": _CLIP,
}
"""Rows of plain vision transformers by a pattern of names; the first that matches counts.

Source: timm, ``models/vision_transformer.py`` and ``models/deit.py``.
"""

ARCHITECTURES: Final = {
    **VIT_ARCHITECTURES,
    r"eva02_(tiny|small|base|large)_patch\d+(_clip)?_\d+": Architecture(rotary=partial(eva_rotary, reference=16)),
    r"eva_giant_patch14(_clip)?_\d+": Architecture(),
    r"vit_pe_core_(tiny|small)_patch16_\d+": _perception_encoder(24),
    r"vit_pe_core_base_patch16_\d+": _perception_encoder(14),
    r"vit_pe_core_large_patch14_\d+": _perception_encoder(24),
    r"vit_pe_lang_large_patch14_\d+": _perception_encoder(32),
    r"vit_pe_spatial_(tiny|small|base|large)_patch\d+_\d+": _perception_encoder(32),
    r"vit_pe_(core|lang|spatial)_gigantic_patch14_\d+": _perception_encoder(32, offset=0.0),
    r"vit_(small|small_plus|base|large|huge_plus)_patch16_dinov3(_qkvb)?": _DINOV3,
}
"""Rows by a pattern of names."""

HEADS: Final = {"tiny": 3, "small": 6, "base": 12, "large": 16, "giant": 16, "gigantic": 16, "huge": 20}
"""Attention heads by the size in an architecture's name, whatever its width."""

TIMM: Final = expand(
    ("cube_embedding.weight", "patch_embed.proj.weight"),
    ("cube_embedding.bias", "patch_embed.proj.bias"),
    ("prefix_tokens", "cls_token", "reg_token", ("cls_token", "reg_token")),
    ("positional_encoding", "pos_embed"),
    ("norm_pre.*", "norm_pre.*"),
    ("blocks.{i}.norm1.*", "blocks.{i}.norm1.*"),
    (
        "blocks.{i}.attention.qkv.weight",
        "blocks.{i}.attn.qkv.weight",
        tuple(f"blocks.{{i}}.attn.{part}_proj.weight" for part in "qkv"),
    ),
    (
        "blocks.{i}.attention.qkv.bias",
        "blocks.{i}.attn.qkv.bias",
        ("blocks.{i}.attn.q_bias", ZEROS, "blocks.{i}.attn.v_bias"),
        ("blocks.{i}.attn.q_proj.bias", ZEROS, "blocks.{i}.attn.v_proj.bias"),
    ),
    ("blocks.{i}.attention.norm.*", "blocks.{i}.attn.norm.*"),
    ("blocks.{i}.attention.projection.*", "blocks.{i}.attn.proj.*"),
    ("blocks.{i}.scale1", "blocks.{i}.gamma_1", "blocks.{i}.ls1.gamma"),
    ("blocks.{i}.scale2", "blocks.{i}.gamma_2", "blocks.{i}.ls2.gamma"),
    ("blocks.{i}.norm2.*", "blocks.{i}.norm2.*"),
    ("blocks.{i}.mlp.fc1.*", "blocks.{i}.mlp.fc1.*", ("blocks.{i}.mlp.fc1_g.*", "blocks.{i}.mlp.fc1_x.*")),
    ("blocks.{i}.mlp.norm.*", "blocks.{i}.mlp.norm.*"),
    ("blocks.{i}.mlp.fc2.*", "blocks.{i}.mlp.fc2.*"),
    ("norm.*", "norm.*", "fc_norm.*"),
    ("pooler.query", "attn_pool.query"),
    ("pooler.kv.*", "attn_pool.kv.*"),
    ("pooler.projection.*", "attn_pool.proj.*"),
    ("pooler.norm2.*", "attn_pool.norm.*"),
    ("pooler.mlp.fc1.*", "attn_pool.mlp.fc1.*"),
    ("pooler.mlp.fc2.*", "attn_pool.mlp.fc2.*"),
    ("head.*", "head.*"),
)


def find_architecture(name: str) -> Architecture | None:
    """Return the row of an architecture; None if it has none."""
    return next((row for pattern, row in ARCHITECTURES.items() if re.fullmatch(pattern, name)), None)
