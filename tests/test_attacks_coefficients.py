"""What ``lcve-dct-1`` does not hide, shown by attacks without tricks; docs/evidence/security.md states the figures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lcve_deploy import ClipGeometry, Orders, PlainClip, SecurityKey, encrypt
from lcve_deploy.cipher.weights import fold_normalisation, fold_transform, scramble
from lcve_deploy.clips import COEFFICIENTS, Scheme
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.samples import real_clips
from tests.conftest import GEOMETRY, ORACLES, SALT

Matrix = npt.NDArray[np.floating]


def orders_of(key: SecurityKey, geometry: ClipGeometry = GEOMETRY) -> Orders:
    orders = derive_orders(key, salt=SALT, geometry=geometry, scheme=Scheme.DCT)
    assert orders.signs is not None
    return orders


def matched(columns: Matrix, reference: Matrix) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """For each column, the reference's column with the largest absolute cosine, and the sign of it."""
    cosines = (columns / np.linalg.norm(columns, axis=0)).T @ (reference / np.linalg.norm(reference, axis=0))
    best = np.abs(cosines).argmax(axis=1)
    return best, np.sign(cosines[np.arange(len(best)), best]).astype(np.int64)


def known_clip(encrypted: Matrix, plain: Matrix) -> tuple[dict[int, int], dict[int, int]]:
    """Match columns by their sorted absolute values, then rows by the values of these columns.

    Args:
        encrypted: coefficients ``[N, L]``.
        plain: those of the same clip without a key, which anyone can compute.

    Returns:
        Plain column of each encrypted column that is unique, and plain row of each encrypted row that is unique.
    """
    columns = _unique(np.sort(np.abs(encrypted), axis=0).T, np.sort(np.abs(plain), axis=0).T)
    chosen = np.array(sorted(columns.items()))
    rows = _unique(np.abs(encrypted)[:, chosen[:, 0]], np.abs(plain)[:, chosen[:, 1]])
    return columns, rows


def _unique(left: Matrix, right: Matrix) -> dict[int, int]:
    """Return which row of ``right`` each row of ``left`` is, where there is only one."""
    places: dict[bytes, list[int]] = {}
    for number, row in enumerate(right):
        places.setdefault(row.tobytes(), []).append(number)
    found = {number: places.get(row.tobytes(), []) for number, row in enumerate(left)}
    return {number: there[0] for number, there in found.items() if len(there) == 1}


def test_the_plain_model_opens_the_artifact(key: SecurityKey) -> None:
    oracle = ORACLES["v1_module_learnable"]
    model, orders = load_checkpoint(oracle.path, oracle.options).model, orders_of(key)
    weight, bias = model.weights["cube_embedding.weight"], model.weights["cube_embedding.bias"]
    reference = fold_transform(*fold_normalisation(weight, bias, model.normalisation), GEOMETRY)[0]
    scrambled = scramble(model, orders).weights["cube_embedding.weight"]
    order, signs = matched(scrambled.astype(np.float64), reference)
    np.testing.assert_array_equal(order, orders.pixel_order)
    np.testing.assert_array_equal(signs, orders.signs[orders.pixel_order])  # type: ignore[index]


def test_two_artifacts_of_one_model_are_linked(key: SecurityKey) -> None:
    oracle = ORACLES["v1_module_learnable"]
    model = load_checkpoint(oracle.path, oracle.options).model
    ours, other = orders_of(key), orders_of(SecurityKey(bytes(range(32, 64))))
    first, second = (scramble(model, o).weights["cube_embedding.weight"].astype(np.float64) for o in (ours, other))
    order, _ = matched(first, second)
    np.testing.assert_array_equal(other.pixel_order[order], ours.pixel_order)


def test_one_known_clip_opens_the_orders(key: SecurityKey) -> None:
    geometry = ClipGeometry.parse("8x64x64x3/2x8x8")
    orders = orders_of(key, geometry)
    clip = PlainClip(values=real_clips(geometry)[0])
    identity = Orders(
        key_id="0" * 32,
        salt=bytes(16),
        geometry=geometry,
        cube_order=np.arange(geometry.cubes),
        pixel_order=np.arange(geometry.values),
        signs=np.ones(geometry.values, np.int8),
    )
    encrypted, plain = (encrypt(clip, o).values[COEFFICIENTS].astype(np.float64) for o in (orders, identity))
    columns, rows = known_clip(encrypted, plain)
    energy = (plain**2).sum(axis=0)
    assert all(orders.pixel_order[at] == found for at, found in columns.items())
    assert energy[list(columns.values())].sum() > 0.99 * energy.sum()
    assert all(orders.cube_order[at] == found for at, found in rows.items())
    assert len(rows) > 0.9 * geometry.cubes
