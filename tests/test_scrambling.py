from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcve_deploy import Normalisation, PlainClip, SecurityKey, derive_orders, encrypt
from lcve_deploy.cipher.weights import fold_normalisation, scramble, unscrambled
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.model.transformer import VideoTransformer
from tests.conftest import GEOMETRY, ORACLES, SALT


def model_of(name: str) -> VideoTransformer:
    oracle = ORACLES[name]
    return load_checkpoint(oracle.path, oracle.options).model


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), secret=st.binary(min_size=32, max_size=32))
def test_scrambled_embedding_of_the_encrypted_clip_is_the_plain_one_up_to_token_order(seed: int, secret: bytes) -> None:
    """The theorem of the paper's section 3.3, normalisation included."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(7, GEOMETRY.values)), rng.normal(size=7)
    normalisation = Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    clip = rng.integers(0, 256, GEOMETRY.clip_shape, dtype=np.uint8)
    orders = derive_orders(SecurityKey(secret), salt=SALT, geometry=GEOMETRY)

    normalised = (clip / 255 - normalisation.mean) / normalisation.std
    plain = GEOMETRY.to_cubes(normalised, np) @ weight.T + bias
    folded, shifted = fold_normalisation(weight, bias, normalisation)
    encrypted = encrypt(PlainClip(values=clip), orders).values @ folded[:, orders.pixel_order].T + shifted

    np.testing.assert_allclose(encrypted, plain[orders.cube_order], atol=1e-9)


def test_positions_follow_the_cubes_and_the_class_token_stays(key: SecurityKey) -> None:
    model = model_of("hf_vivit")
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    table = model.weights["positional_encoding"]
    moved = scramble(model, orders).weights["positional_encoding"]
    np.testing.assert_array_equal(moved[0], table[0])
    np.testing.assert_array_equal(moved[1:], table[1:][orders.cube_order])


@pytest.mark.parametrize("name", ["v1_first_token", "hf_videomae_first_token"])
def test_a_first_token_readout_follows_cube_zero(key: SecurityKey, name: str) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    index = scramble(model_of(name), orders).readout_index
    assert index is not None
    assert orders.cube_order[index] == 0


def test_readouts_that_do_not_move(key: SecurityKey) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    assert scramble(model_of("hf_vivit"), orders).readout_index == 0
    assert scramble(model_of("hf_videomae"), orders).readout_index is None


def test_only_keyed_weights_change(key: SecurityKey) -> None:
    model = model_of("v1_gamma")
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=5)
    plain, scrambled = unscrambled(model).weights, scramble(model, orders).weights
    changed = {name for name in plain if not np.array_equal(plain[name], scrambled[name])}
    assert changed == {"cube_embedding.weight", "positional_encoding", "head.weight", "head.bias"}
    np.testing.assert_array_equal(scrambled["head.weight"], model.weights["head.weight"][orders.label_order])


def test_orders_of_another_geometry_are_refused(key: SecurityKey) -> None:
    other = derive_orders(key, salt=SALT, geometry=type(GEOMETRY).parse("8x32x32x3/2x16x16"))
    with pytest.raises(ValueError, match="geometry"):
        scramble(model_of("v1_gamma"), other)
