"""Rotary tables: those of each family's own code, in the common form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lcve_deploy import ClipGeometry
from lcve_deploy.errors import UnsupportedModelError
from lcve_deploy.exporters.checkpoints.rotary import Rotary, eva_rotary, vjepa2_rotary, with_rotary
from lcve_deploy.model.transformer import TransformerConfig

GEOMETRY = ClipGeometry(frames=8, height=32, width=32, channels=3, cube=(2, 8, 8))
IMAGE = ClipGeometry(frames=1, height=24, width=40, channels=3, cube=(1, 8, 8))


def rotated(rotary: Rotary, rows: np.ndarray) -> np.ndarray:
    """The graph's form, in the family's order of columns."""
    x = rows[..., rotary.columns]
    swapped = np.concatenate(np.split(x, 2, axis=-1)[::-1], axis=-1)
    result = np.empty_like(x)
    result[..., rotary.columns] = x * rotary.cos + swapped * rotary.sin
    return result


@pytest.mark.parametrize("head_width", [6, 8, 12, 16, 22, 64, 88])
def test_vjepa2_rotates_as_transformers_does(head_width: int) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

    config = transformers.VJEPA2Config(patch_size=8, crop_size=32, hidden_size=3 * head_width, num_attention_heads=3)
    attention: Any = VJEPA2RopeAttention(config, 3 * head_width, 3)
    rows = np.random.default_rng(head_width).normal(size=(1, 3, GEOMETRY.cubes, head_width))
    places = attention.get_position_ids(torch.zeros(1, GEOMETRY.cubes, 1))
    expected = attention.apply_rotary_embeddings(torch.from_numpy(rows), places).numpy()
    np.testing.assert_allclose(rotated(vjepa2_rotary(GEOMETRY, head_width), rows), expected, atol=1e-14)


def test_the_pairs_of_vjepa2_are_not_rotated() -> None:
    """The released code repeats its frequencies instead of interleaving them; a corrected table would be wrong."""
    rotary = vjepa2_rotary(GEOMETRY, 24)
    lengths = rotary.cos[:, :12] ** 2 + rotary.sin[:, 12:] ** 2
    assert np.abs(lengths - 1).max() > 0.5


@pytest.mark.parametrize("options", [{"reference": 16}, {"reference": 3, "offset": 1.0, "columns_first": True}])
def test_timm_models_rotate_as_timm_does(options: dict[str, Any]) -> None:
    layers = pytest.importorskip("timm.layers")
    own = layers.create_rope_embed(
        rope_type="cat",
        dim=48,
        num_heads=3,
        in_pixels=False,
        feat_shape=IMAGE.grid[1:],
        ref_feat_shape=[options["reference"]] * 2,
        grid_offset=options.get("offset", 0.0),
        grid_indexing="xy" if options.get("columns_first") else "ij",
    )
    rows = np.random.default_rng(1).normal(size=(1, 3, IMAGE.cubes, 16))
    expected = layers.apply_rot_embed_cat(torch.from_numpy(rows), own.get_embed()).numpy()
    np.testing.assert_allclose(rotated(eva_rotary(IMAGE, 16, **options), rows), expected, atol=1e-5)


def test_permuted_queries_and_keys_have_the_same_scores() -> None:
    config = TransformerConfig(geometry=GEOMETRY, width=24, depth=1, heads=3, hidden=8, classes=2)
    rotary = vjepa2_rotary(GEOMETRY, 8)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(GEOMETRY.cubes, 24))
    plain = {
        "blocks.0.attention.qkv.weight": rng.normal(size=(72, 24)),
        "blocks.0.attention.qkv.bias": rng.normal(size=72),
    }
    moved = with_rotary(plain, config, rotary)

    def parts(weights: dict[str, np.ndarray]) -> list[np.ndarray]:
        qkv = x @ weights["blocks.0.attention.qkv.weight"].T + weights["blocks.0.attention.qkv.bias"]
        return list(qkv.reshape(-1, 3, 3, 8).transpose(1, 2, 0, 3))

    def turned(rows: np.ndarray) -> np.ndarray:
        swapped = np.concatenate(np.split(rows, 2, axis=-1)[::-1], axis=-1)
        return rows * moved["rotary.cos"] + swapped * moved["rotary.sin"]

    (q, k, v), (q2, k2, v2) = parts(plain), parts(moved)
    expected = rotated(rotary, q) @ rotated(rotary, k).transpose(0, 2, 1)
    np.testing.assert_allclose(turned(q2) @ turned(k2).transpose(0, 2, 1), expected, atol=1e-12)
    np.testing.assert_array_equal(v, v2)


def test_widths_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="even width, received 15"):
        vjepa2_rotary(GEOMETRY, 15)
    with pytest.raises(UnsupportedModelError, match="width 4 n, received 18"):
        eva_rotary(IMAGE, 18, reference=16)
