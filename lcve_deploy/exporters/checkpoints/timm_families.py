"""Table of timm's architectures that can be exported, and the names of their weights.

A row is a group of architectures that differ only in what their weights show: widths, depth, tokens, norms and the
kind of MLP. It states what weights do not show.

Source: timm, ``models/eva.py``, ``layers/attention_pool.py`` and ``layers/mlp.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from lcve_deploy.exporters.checkpoints.image_layouts import expand
from lcve_deploy.exporters.checkpoints.layouts import ZEROS
from lcve_deploy.exporters.checkpoints.rotary import Rotary, dinov3_rotary, eva_rotary
from lcve_deploy.geometry import ClipGeometry

__all__ = ["ARCHITECTURES", "HEADS", "TIMM", "Architecture", "find_architecture"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Facts about a group of architectures.

    Args:
        eps: epsilon of all norms.
        rotary: computes the rotary tables from geometry and head width; None without them.
        pooler_heads: heads of the attentive pooling; None if they are those of the encoder.
    """

    eps: float = 1e-6
    rotary: Callable[[ClipGeometry, int], Rotary] | None = None
    pooler_heads: int | None = None


def _perception_encoder(reference: int, *, offset: float = 1.0) -> Architecture:
    rotary = partial(eva_rotary, reference=reference, offset=offset, columns_first=True)
    return Architecture(eps=1e-5, rotary=rotary, pooler_heads=8)


_DINOV3: Final = Architecture(eps=1e-5, rotary=partial(dinov3_rotary, base=100.0))

ARCHITECTURES: Final = {
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
    ("blocks.{i}.scale1", "blocks.{i}.gamma_1"),
    ("blocks.{i}.scale2", "blocks.{i}.gamma_2"),
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
