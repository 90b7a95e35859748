"""Models of the common form with random weights, at least one for every switch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy import Normalisation, Orders, SecurityKey, derive_orders
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import (
    Activation,
    Attention,
    FinalNorm,
    Norm,
    Pooler,
    QkNorm,
    Readout,
    TransformerConfig,
    VideoTransformer,
    weight_shapes,
)
from tests.conftest import SALT

VIDEO = ClipGeometry.parse("4x16x16x3/2x8x8")
IMAGE = ClipGeometry.parse("1x24x16x3/1x8x8")
BASE = TransformerConfig(geometry=VIDEO, width=16, depth=2, heads=2, hidden=24, classes=5)
KEYS = [SecurityKey(bytes([number]) * 32) for number in (1, 2)]

Arrays = Mapping[str, npt.NDArray[Any]]


def drawn_weights(config: TransformerConfig, seed: int = 0) -> Arrays:
    """Weights that give values of about 1, and rotary tables that are not rotations."""
    rng = np.random.default_rng(seed)
    weights: dict[str, npt.NDArray[Any]] = {}
    for name, shape in weight_shapes(config).items():
        if name == "relative_position.index":
            weights[name] = rng.integers(0, config.relative_buckets, shape)
        elif ".weight" in name and len(shape) == 1:
            weights[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            scale = shape[1] ** -0.5 if len(shape) == 2 and name.endswith(".weight") else 1.0
            weights[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return weights


def drawn(config: TransformerConfig, seed: int = 0) -> VideoTransformer:
    normalisation = Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    return VideoTransformer(config=config, weights=drawn_weights(config, seed), normalisation=normalisation)


def clips_of(geometry: ClipGeometry, count: int = 2) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, *geometry.clip_shape), dtype=np.uint8)


def orders_of(config: TransformerConfig, key: SecurityKey) -> Orders:
    return derive_orders(key, salt=SALT, geometry=config.geometry, classes=config.classes if config.head else None)


def in_plain_order(output: npt.NDArray[Any], config: TransformerConfig, orders: Orders) -> npt.NDArray[Any]:
    """What the key holder does with an output: labels by K3, tokens by K1."""
    plain = np.array(output)
    if orders.label_order is not None:
        plain[..., orders.label_order] = output
    if config.readout is Readout.TOKENS:
        rows = np.array(plain)
        plain[:, config.prefix + orders.cube_order] = rows[:, config.prefix :]
    return plain


def changed(**values: Any) -> TransformerConfig:
    return dataclasses.replace(BASE, **values)


POOLER = Pooler(heads=4, hidden=20)
VJEPA2 = Pooler(heads=2, hidden=32, depth=2, input_norm=True, residual=True, projection=False, eps=1e-3)
BEFORE = FinalNorm.BEFORE
CASES = {
    "image": changed(geometry=IMAGE, prefix=1, readout=Readout.CLASS_TOKEN),
    "registers": changed(prefix=5, readout=Readout.CLASS_AND_MEAN, final_norm=BEFORE, layer_scale=True),
    "mean of all tokens": changed(prefix=2),
    "first cube after prefix tokens": changed(prefix=2, readout=Readout.FIRST_CUBE),
    "distillation": changed(prefix=2, readout=Readout.PREFIX_PAIR, final_norm=BEFORE),
    "no last norm": changed(prefix=1, readout=Readout.CUBES_MEAN, final_norm=FinalNorm.NONE, embedding_norm=True),
    "rotary": changed(positions=False, rotary=True),
    "rotary, table and prefix": changed(rotary=True, prefix=3, readout=Readout.CLASS_TOKEN),
    "V-JEPA 2": changed(
        positions=False, rotary=True, final_norm=BEFORE, readout=Readout.ATTENTION, pooler=VJEPA2, block_eps=1e-3
    ),
    "SigLIP": changed(
        geometry=IMAGE, final_norm=BEFORE, readout=Readout.ATTENTION, pooler=POOLER, head=False, classes=16
    ),
    "pooler alone": changed(readout=Readout.ATTENTION, pooler=Pooler(heads=1), prefix=1),
    "relative positions": changed(positions=False, relative_buckets=9, prefix=1, readout=Readout.CUBES_MEAN),
    "relative positions, cosine": changed(relative_buckets=9, attention=Attention.COSINE),
    "gated": changed(gated=True, activation=Activation.SILU, mlp_norm=True, attention_norm=True),
    "RMS": changed(norm=Norm.RMS, qk_norm=QkNorm.WIDTH, qk_norm_kind=Norm.RMS, block_eps=1e-2, final_eps=1e-2),
    "RMS by head": changed(norm=Norm.RMS, qk_norm=QkNorm.HEAD, rotary=True, positions=False, qkv_bias=False),
    "features": changed(prefix=1, readout=Readout.CLASS_TOKEN, head=False, classes=16),
    "projected features": changed(
        prefix=1, readout=Readout.CLASS_TOKEN, final_norm=BEFORE, projection=6, head=False, classes=6
    ),
    "zero-shot": changed(projection=12, unit=True),
    "tokens": changed(prefix=2, readout=Readout.TOKENS, final_norm=BEFORE, rotary=True, positions=False),
    "tokens without a head": changed(readout=Readout.TOKENS, final_norm=BEFORE, head=False, classes=16),
}
