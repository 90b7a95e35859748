"""Keyed tensors of one key's orders, moved to those of another: what scrambling under the other key gives."""

from __future__ import annotations

import numpy as np
import pytest

from lcve_deploy import ClipGeometry, Orders, SecurityKey, derive_orders
from lcve_deploy.cipher.rotation import rotate_tensors
from lcve_deploy.cipher.weights import scramble
from lcve_deploy.exporters.checkpoints import load_checkpoint
from tests.conftest import GEOMETRY, ORACLES, SALT

OTHER = SecurityKey(bytes(range(32, 64)))


def orders_of(key: SecurityKey, *, labels: bool, geometry: ClipGeometry = GEOMETRY) -> Orders:
    return derive_orders(key, salt=SALT, geometry=geometry, classes=5 if labels else None)


def scrambled(name: str, orders: Orders) -> dict[str, np.ndarray]:
    """Keyed tensors as a graph has them."""
    oracle = ORACLES[name]
    model = scramble(load_checkpoint(oracle.path, oracle.options).model, orders)
    tensors = {
        "cube_embedding.weight": model.weights["cube_embedding.weight"].T,
        "positional_encoding": model.weights["positional_encoding"],
        "head.weight": model.weights["head.weight"].T,
        "head.bias": model.weights["head.bias"],
    }
    if model.readout_index is not None:
        tensors["readout.index"] = np.array(model.readout_index, dtype=np.int64)
    return tensors


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("name", ["v1_module_learnable", "v1_first_token", "hf_vivit"])
def test_moved_tensors_are_those_of_the_other_key(key: SecurityKey, name: str, labels: bool) -> None:
    old, new = orders_of(key, labels=labels), orders_of(OTHER, labels=labels)
    moved = rotate_tensors(scrambled(name, old), old, new)
    expected = scrambled(name, new)
    assert set(moved) == set(expected)
    for tensor, values in expected.items():
        np.testing.assert_array_equal(moved[tensor], values)
        assert (moved[tensor].dtype, moved[tensor].shape) == (values.dtype, values.shape)


@pytest.mark.parametrize("labels", [(True, False), (False, True)])
def test_labels_are_hidden_in_both_or_in_neither(key: SecurityKey, labels: tuple[bool, bool]) -> None:
    old, new = (orders_of(k, labels=hidden) for k, hidden in zip((key, OTHER), labels, strict=True))
    with pytest.raises(ValueError, match="same scheme, geometry and labels"):
        rotate_tensors(scrambled("v1_first_token", old), old, new)


@pytest.mark.parametrize("text", ["8x32x32x3/2x16x16", "16x16x32x3/2x8x8"])
def test_orders_of_another_geometry_move_nothing(key: SecurityKey, text: str) -> None:
    old, new = orders_of(key, labels=True), orders_of(OTHER, labels=True, geometry=ClipGeometry.parse(text))
    with pytest.raises(ValueError, match="same scheme, geometry and labels"):
        rotate_tensors(scrambled("v1_first_token", old), old, new)


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_the_token_that_is_read_is_the_same_one_wherever_it_stands(key: SecurityKey, prefix: int) -> None:
    old, new = orders_of(key, labels=False), orders_of(OTHER, labels=False)
    table = np.arange(prefix + GEOMETRY.cubes, dtype=np.float32)[:, None]
    tensors = scrambled("v1_module_learnable", old) | {"positional_encoding": table}
    for index in range(len(table)):
        moved = rotate_tensors(tensors | {"readout.index": np.array(index)}, old, new)
        assert moved["positional_encoding"][moved["readout.index"]] == table[index]
        assert (moved["readout.index"] == index) or index >= prefix
