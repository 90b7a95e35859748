"""Plant errors in the exported model: the comparison finds each of them, by default and thoroughly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from lcve_deploy import CheckpointOptions, ExportOptions, SecurityKey, derive_orders, export
from lcve_deploy.cipher.weights import scramble, unscrambled
from lcve_deploy.errors import ParityError
from lcve_deploy.keys.orders import Orders
from lcve_deploy.model.transformer import ScrambledTransformer, VideoTransformer
from lcve_deploy.verbs import export as export_verb
from tests.conftest import SALT

EXAMPLE = Path(__file__).parents[1] / "examples/moving_digits/moving_digits.pth"

Array = npt.NDArray[np.floating]
Plant = Callable[[VideoTransformer, Orders], ScrambledTransformer]


def _exchange(array: npt.NDArray[Any], first: int, second: int, axis: int = 0) -> npt.NDArray[Any]:
    order = np.arange(array.shape[axis])
    order[[first, second]] = second, first
    return array.take(order, axis)


def _edit(**edits: Callable[[Array], Array]) -> Plant:
    """Scramble, and then edit weights; in their names, ``__`` stands for a dot."""

    def plant(model: VideoTransformer, orders: Orders) -> ScrambledTransformer:
        scrambled = scramble(model, orders)
        edited = {(key := name.replace("__", ".")): edit(scrambled.weights[key]) for name, edit in edits.items()}
        return dataclasses.replace(scrambled, weights={**scrambled.weights, **edited})

    return plant


def _perturb(array: Array) -> Array:
    return array + 1e-3 * np.random.default_rng(0).standard_normal(array.shape).astype(array.dtype)


def _copy_row(table: Array) -> Array:
    table = table.copy()
    table[3] = table[4]
    return table


def _without_normalisation(model: VideoTransformer, orders: Orders) -> ScrambledTransformer:
    weight, bias = (model.weights[f"cube_embedding.{name}"] for name in ("weight", "bias"))
    plant = _edit(cube_embedding__weight=lambda _: weight[:, orders.pixel_order], cube_embedding__bias=lambda _: bias)
    return plant(model, orders)


def _wrong_cube(model: VideoTransformer, orders: Orders) -> ScrambledTransformer:
    return scramble(model, dataclasses.replace(orders, cube_order=_exchange(orders.cube_order, 5, 20)))


def _wrong_key(model: VideoTransformer, orders: Orders) -> ScrambledTransformer:
    other = derive_orders(
        SecurityKey(bytes(range(1, 33))), salt=orders.salt, geometry=orders.geometry, classes=model.config.classes
    )
    return scramble(model, other)


def _other_eps(model: VideoTransformer, orders: Orders) -> ScrambledTransformer:
    scrambled = scramble(model, orders)
    return dataclasses.replace(scrambled, config=dataclasses.replace(scrambled.config, block_eps=1e-3))


def _half_precision(model: VideoTransformer, orders: Orders) -> ScrambledTransformer:
    scrambled = scramble(model, orders)
    halves = {name: array.astype(np.float16).astype(array.dtype) for name, array in scrambled.weights.items()}
    return dataclasses.replace(scrambled, weights=halves)


BAD_MODELS: Final[dict[str, Plant]] = {
    "a wrong position row": _edit(positional_encoding=_copy_row),
    "two exchanged columns of the embedding": _edit(cube_embedding__weight=lambda w: _exchange(w, 10, 11, axis=1)),
    "the normalisation not folded in": _without_normalisation,
    "two exchanged entries of the cube order": _wrong_cube,
    "two exchanged entries of the label order": _edit(
        head__weight=lambda w: _exchange(w, 0, 1), head__bias=lambda b: _exchange(b, 0, 1)
    ),
    "the orders of another key": _wrong_key,
    "no scrambling": lambda model, _: unscrambled(model),
    "a missing bias": _edit(blocks__0__mlp__fc1__bias=np.zeros_like),
    "another epsilon": _other_eps,
    "weights of one block off by 1e-3": _edit(blocks__1__mlp__fc2__weight=_perturb),
    "weights rounded to half precision": _half_precision,
}


@pytest.mark.parametrize("thorough", [False, True], ids=["default", "thorough"])
@pytest.mark.parametrize("name", BAD_MODELS)
def test_every_bad_model_is_refused(
    name: str, thorough: bool, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_verb, "scramble", BAD_MODELS[name])
    with pytest.raises(ParityError, match="logits differ"):
        _export(tmp_path / "out", key, thorough=thorough)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("thorough", [False, True], ids=["default", "thorough"])
def test_the_right_model_agrees_far_within_the_tolerance(key: SecurityKey, tmp_path: Path, thorough: bool) -> None:
    """So float32 in the reference leaves at least nine tenths of the tolerance to errors of the model."""
    report = _export(tmp_path / "out", key, thorough=thorough).parity
    assert report.ok
    assert report.max_difference < 0.1 * report.tolerance


def _export(output: Path, key: SecurityKey, *, thorough: bool) -> export_verb.ExportResult:
    options = ExportOptions(checkpoint=CheckpointOptions(heads=4, size=64), salt=SALT, thorough=thorough)
    return export(EXAMPLE, output, key=key, options=options)
