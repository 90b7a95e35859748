from __future__ import annotations

import copy
import hashlib
import pickle
import types

import numpy as np
import pytest

from lcve_deploy import ClipGeometry, SecurityKey, derive_orders
from lcve_deploy.keys import orders as schedule
from tests.conftest import GEOMETRY, SALT


def label_order(key: SecurityKey, classes: int, *, salt: bytes = SALT) -> np.ndarray:
    order = derive_orders(key, salt=salt, geometry=GEOMETRY, classes=classes).label_order
    assert order is not None
    return order


def digest(order: np.ndarray) -> str:
    return hashlib.sha256(order.astype("<u4").tobytes()).hexdigest()


def test_orders_are_those_of_the_format(key: SecurityKey) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    assert orders.cube_order[:6].tolist() == [45, 49, 55, 19, 25, 42]
    assert digest(orders.cube_order) == "7f9d491b531854da172cd928f5428424220aa41b1a9ee5523e3f420461117936"
    assert orders.pixel_order[:6].tolist() == [340, 198, 195, 311, 122, 158]
    assert digest(orders.pixel_order) == "428cf11359f811f1e5e144c791c4eaf49718162e3e50eca6837ebddfa8014c2e"


def test_label_order_is_that_of_the_format(key: SecurityKey) -> None:
    order = label_order(key, 400)
    assert order[:6].tolist() == [130, 141, 223, 71, 170, 222]
    assert digest(order) == "ac00d51d79c1ba9b6521b0c7d3aa7831282b0991d8dc1a7bda8c07d13f11b895"


def test_labels_are_hidden_only_when_classes_are_given(key: SecurityKey) -> None:
    shown, hidden = (derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=classes) for classes in (None, 5))
    assert shown.label_order is None
    np.testing.assert_array_equal(shown.cube_order, hidden.cube_order)
    np.testing.assert_array_equal(shown.pixel_order, hidden.pixel_order)


def test_orders_do_not_touch_numpys_generators(key: SecurityKey) -> None:
    np.random.seed(1)
    before = np.random.get_state(legacy=False)["state"]["key"].tolist()
    derive_orders(key, salt=SALT, geometry=GEOMETRY)
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before


@pytest.mark.parametrize("changed", ["key", "salt", "geometry"])
def test_everything_that_goes_in_matters(key: SecurityKey, changed: str) -> None:
    other_key = SecurityKey(bytes(32)) if changed == "key" else key
    other_salt = bytes(16) if changed == "salt" else SALT
    geometry = ClipGeometry.parse("8x32x32x3/2x8x8" if changed != "geometry" else "16x16x32x3/2x8x8")
    first = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    second = derive_orders(other_key, salt=other_salt, geometry=geometry)
    assert first.cube_order.tolist() != second.cube_order.tolist()
    assert first.pixel_order.tolist() != second.pixel_order.tolist()


def test_orders_are_permutations_and_uniform_enough() -> None:
    first = np.zeros((6, 6))
    for number in range(600):
        order = label_order(SecurityKey(number.to_bytes(32, "big")), 6)
        assert sorted(order.tolist()) == list(range(6))
        first[np.arange(6), order] += 1
    chi_squared = ((first - 100) ** 2 / 100).sum()
    assert chi_squared < 52.6  # 25 degrees of freedom, 0.1 %


def test_orders_cannot_be_changed_by_accident(key: SecurityKey) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=5)
    assert orders.label_order is not None
    for order in (orders.cube_order, orders.pixel_order, orders.label_order):
        with pytest.raises(ValueError, match="read-only"):
            order[0] = 1


def test_the_repr_shows_no_order(key: SecurityKey) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=400)
    assert "array" not in repr(orders)
    assert "130, 141" not in repr(orders)  # where K3 begins


def test_a_salt_has_16_bytes(key: SecurityKey) -> None:
    for salt in (b"", bytes(15), bytes(17)):
        with pytest.raises(ValueError, match=f"16 bytes, received {len(salt)}"):
            derive_orders(key, salt=salt, geometry=GEOMETRY)


def test_orders_cannot_be_replaced_compared_or_copied(key: SecurityKey) -> None:
    orders, same = (derive_orders(key, salt=SALT, geometry=GEOMETRY) for _ in range(2))
    with pytest.raises(AttributeError):
        orders.salt = bytes(16)  # type: ignore[misc]
    assert (orders == orders, orders == same) == (True, False)
    for work in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="derive them again"):
            work(orders)


def test_what_is_made_of_orders_cannot_be_changed_either(key: SecurityKey) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    np.testing.assert_array_equal(orders.placement[orders.cube_order], np.arange(GEOMETRY.cubes))
    assert orders.row_gather.shape == (4 * GEOMETRY.values,)
    np.testing.assert_array_equal(orders.word_scatter[orders.word_gather], np.arange(4 * GEOMETRY.values))
    made = (orders.placement, orders.row_gather, orders.word_gather, orders.word_scatter)
    for order in (orders.pixel_order, *made):
        assert not order.flags.writeable


def test_orders_that_need_more_than_one_piece_of_the_keystream(key: SecurityKey) -> None:
    """A piece has 4096 draws; K1 of a large clip needs more. Computed with nothing but HMAC and AES."""
    order = derive_orders(key, salt=SALT, geometry=ClipGeometry.parse("8x128x128x1/1x4x4")).cube_order
    assert sorted(order.tolist()) == list(range(8192))
    assert order[:6].tolist() == [3409, 734, 7604, 2560, 3386, 6815]
    assert digest(order) == "71dd00e9022423afb324f8945e4c779d834f2e5ec748f553e54159bc7f309fc5"


@pytest.mark.parametrize("size", [2, 3, 5, 6, 7, 384, 1568])
def test_draws_that_would_favour_small_numbers_are_thrown_away(
    key: SecurityKey, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Those from 2^32 - (2^32 mod bound) on, and no others."""
    limit = 2**32 // size * size
    script = [*range(limit, 2**32), limit - 1, *[0] * (size - 2)]  # thrown away, the largest that is kept, the rest
    draws = iter(script)
    monkeypatch.setattr(schedule, "_Draws", lambda _: types.SimpleNamespace(next=lambda: next(draws)))
    order = schedule._order(key, "any", size, SALT)
    assert next(draws, None) is None  # all were asked for
    expected = list(range(size))  # the first swap is that of the last entry with itself
    for last in range(size - 2, 0, -1):
        expected[last], expected[0] = expected[0], expected[last]
    assert order.tolist() == expected
