"""ViT Scrambling: the weights that read encrypted clips, computed once in NumPy for every exporter.

Source: LCVE paper, section 3.3 (positional encodings by K1, linear projection by K2); format of
scheme ``lcve-1``, section "What the orders mean" (normalisation, readout and labels).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.cipher.coefficients import MIDDLE, require_supported, to_frequencies
from lcve_deploy.clips import SALT_BYTES
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Order, Orders
from lcve_deploy.model.keyed import KEYED_TENSORS, KeyedBy, moved_rows
from lcve_deploy.model.transformer import (
    Normalisation,
    Readout,
    ScrambledTransformer,
    TransformerConfig,
    VideoTransformer,
)

__all__ = ["fold_normalisation", "fold_transform", "scramble", "unscrambled"]

FloatArray = npt.NDArray[np.floating]

_UINT8_RANGE: Final = 255.0


def scramble(model: VideoTransformer, orders: Orders) -> ScrambledTransformer:
    """Fold the normalisation in, and for orders of ``lcve-dct-1`` the inverse transform; permute what meets the orders.

    Args:
        model: the plain model.
        orders: made for the model's geometry, and with K3 for its classes. Without K3 the classifier's rows stay where
            they are, and the labels are shown.

    Raises:
        ValueError: orders of another geometry or number of classes, K3 for a model without a classifier, or cubes that
            the scheme does not support.
    """
    config = model.config
    if orders.geometry != config.geometry:
        raise ValueError(f"the model has the geometry {config.geometry}, the orders {orders.geometry}")
    weight, bias = fold_normalisation(
        model.weights["cube_embedding.weight"], model.weights["cube_embedding.bias"], model.normalisation
    )
    if orders.signs is not None:
        require_supported(orders.geometry)
        weight, bias = fold_transform(weight, bias, orders.geometry)
        weight *= orders.signs
    changed = {
        "cube_embedding.weight": _like(weight[:, orders.pixel_order], model.weights["cube_embedding.weight"]),
        "cube_embedding.bias": _like(bias, model.weights["cube_embedding.bias"]),
        **_scramble_positions(model, orders.cube_order),
    }
    label_order = orders.label_order
    if label_order is not None:
        if not config.head:
            raise ValueError("expected orders without K3 for a model without a classifier, received a label order")
        if len(label_order) != config.classes:
            raise ValueError(f"the model has {config.classes} classes, the label order {len(label_order)}")
        changed |= {name: model.weights[name][label_order] for name in ("head.weight", "head.bias")}
    return ScrambledTransformer(
        config=config, weights={**model.weights, **changed}, readout_index=_readout_index(config, orders.cube_order)
    )


def unscrambled(model: VideoTransformer) -> ScrambledTransformer:
    """The same graph without a key: normalisation folded, nothing permuted. For comparisons only."""
    geometry = model.config.geometry
    identity = Orders(
        key_id="0" * 32,
        salt=bytes(SALT_BYTES),
        geometry=geometry,
        cube_order=np.arange(geometry.cubes),
        pixel_order=np.arange(geometry.values),
    )
    return scramble(model, identity)


def fold_normalisation(
    weight: FloatArray, bias: FloatArray, normalisation: Normalisation
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Move (x/255 - m)/s from the clip into the embedding, which then takes x itself.

    Must come before the columns move: the statistics go by channel.

    Shape: weight ``[D, L]`` with the channel as the fastest axis of L, bias ``[D]``; both returned
        in float64.
    """
    per_column = weight.shape[1] // len(normalisation.mean)
    mean = np.tile(np.array(normalisation.mean, dtype=np.float64), per_column)
    std = np.tile(np.array(normalisation.std, dtype=np.float64), per_column)
    exact = weight.astype(np.float64)
    return exact / (_UINT8_RANGE * std), bias.astype(np.float64) - exact @ (mean / std)


def fold_transform(
    weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], geometry: ClipGeometry
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return an embedding of coefficients from one of values. The step is not in it: every clip states its own.

    Shape: weight ``[D, L]``, bias ``[D]``.
    """
    shifted: npt.NDArray[np.float64] = bias + MIDDLE * weight.sum(axis=1)
    return to_frequencies(weight, geometry), shifted


def _scramble_positions(model: VideoTransformer, cube_order: Order) -> dict[str, npt.NDArray[Any]]:
    """Return all tables of positions: new row of cube token i = old row of cube token ``K1[i]``; prefix tokens stay."""
    return {
        keyed.name: moved_rows(model.weights[keyed.name], cube_order, keyed.by)
        for keyed in KEYED_TENSORS
        if keyed.by in (KeyedBy.CUBES, KeyedBy.CUBE_PAIRS) and keyed.name in model.weights
    }


def _readout_index(config: TransformerConfig, cube_order: Order) -> int | None:
    if config.readout is Readout.CLASS_TOKEN:
        return 0
    if config.readout is Readout.FIRST_CUBE:
        return config.prefix + int(np.flatnonzero(cube_order == 0)[0])
    return None


def _like(array: FloatArray, original: FloatArray) -> FloatArray:
    return array.astype(original.dtype)
