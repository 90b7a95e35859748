"""The scheme ``lcve-dct-1``: encryption of coefficients, and models that read them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from lcve_deploy import (
    ClipGeometry,
    EncryptedClip,
    Layout,
    Normalisation,
    Orders,
    PlainClip,
    SecurityKey,
    decrypt,
    encrypt,
)
from lcve_deploy.cipher import coefficients
from lcve_deploy.cipher.clips import binding_of, reencrypt
from lcve_deploy.cipher.coefficients import from_frequencies, quantised, to_frequencies
from lcve_deploy.cipher.rotation import rotate_tensors
from lcve_deploy.cipher.weights import fold_normalisation, fold_transform
from lcve_deploy.clips import COEFFICIENTS, STEP, Binding, Scheme
from lcve_deploy.errors import MismatchError
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.packing import min_step
from tests.conftest import GEOMETRY, SALT
from tests.support.fake_arrays import namespace

OTHER = SecurityKey(bytes(range(32, 64)))
GEOMETRIES = ["8x32x32x3/2x8x8", "2x28x28x3/1x14x14", "4x12x20x1/2x3x5", "2x4x6x4/1x2x2"]


def orders_of(key: SecurityKey, geometry: ClipGeometry = GEOMETRY, classes: int | None = None) -> Orders:
    return derive_orders(key, salt=SALT, geometry=geometry, classes=classes, scheme=Scheme.DCT)


def noise(geometry: ClipGeometry = GEOMETRY, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, geometry.clip_shape, np.uint8)


def test_the_orders_have_nothing_in_common_with_those_of_the_other_scheme(key: SecurityKey) -> None:
    ours, theirs = orders_of(key, classes=400), derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=400)
    assert (ours.scheme, theirs.scheme, theirs.signs) == (Scheme.DCT, Scheme.LCVE, None)
    for name in ("cube_order", "pixel_order", "label_order"):
        assert np.mean(getattr(ours, name) == getattr(theirs, name)) < 0.1


def test_signs_are_bits_of_the_keystream(key: SecurityKey) -> None:
    signs, others = orders_of(key).signs, orders_of(OTHER).signs
    assert signs is not None
    assert others is not None
    assert set(signs.tolist()) == {1, -1}
    assert abs(int(signs.sum())) < 100
    assert not np.array_equal(signs, others)


@pytest.mark.parametrize("text", GEOMETRIES)
def test_the_transform_is_that_of_scipy(text: str) -> None:
    geometry = ClipGeometry.parse(text)
    cubes = np.random.default_rng(0).normal(size=(3, geometry.values))
    axes = (1, 2, 3, 4) if geometry.channels == 3 else (1, 2, 3)
    expected = dctn(cubes.reshape(3, *geometry.cube, geometry.channels), axes=axes, norm="ortho")
    frequencies = to_frequencies(cubes, geometry)
    np.testing.assert_allclose(frequencies, expected.reshape(3, -1), atol=1e-12)
    np.testing.assert_allclose(from_frequencies(frequencies, geometry), cubes, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(text=st.sampled_from(GEOMETRIES), seed=st.integers(0, 99), secret=st.binary(min_size=32, max_size=32))
def test_the_embedding_of_coefficients_is_that_of_the_decrypted_clip(text: str, seed: int, secret: bytes) -> None:
    """The theorem of the scheme: exact on the clip as the model sees it, normalisation included."""
    geometry = ClipGeometry.parse(text)
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(7, geometry.values)), rng.normal(size=7)
    normalisation = Normalisation(mean=(0.4,) * geometry.channels, std=(0.25,) * geometry.channels)
    orders = orders_of(SecurityKey(secret), geometry)
    encrypted = encrypt(PlainClip(values=noise(geometry, seed)), orders, step=float(rng.uniform(8, 64)))

    seen = (decrypt(encrypted, orders).values / 255 - 0.4) / 0.25
    plain = geometry.to_cubes(seen, np) @ weight.T + bias
    folded, shifted = fold_transform(*fold_normalisation(weight, bias, normalisation), geometry)
    assert orders.signs is not None
    scrambled = (folded * orders.signs)[:, orders.pixel_order]
    record = encrypted.values
    received = record[COEFFICIENTS].astype(np.float64) @ scrambled.T * np.float64(record[STEP]) + shifted

    np.testing.assert_allclose(received, plain[orders.cube_order], atol=1e-9)


@pytest.mark.parametrize("text", GEOMETRIES)
@pytest.mark.parametrize("step", [None, "smallest", 256.0])
def test_decryption_is_near_the_plain_clip(key: SecurityKey, text: str, step: float | str | None) -> None:
    geometry = ClipGeometry.parse(text)
    chosen = min_step(geometry) if step == "smallest" else step
    clip, orders = noise(geometry), orders_of(key, geometry)
    assert not isinstance(chosen, str)
    encrypted = encrypt(PlainClip(values=clip), orders, step=chosen)
    assert encrypted.values[STEP] == np.float32(chosen or 16)
    error = decrypt(encrypted, orders).values - clip
    assert np.sqrt(np.mean(error**2)) <= 0.61 * (chosen or 16)


@pytest.mark.parametrize("value", [0, 255])
def test_the_largest_coefficients_are_exact_in_float16(key: SecurityKey, value: int) -> None:
    geometry = ClipGeometry.parse("4x64x64x3/4x64x64")
    clip = np.full(geometry.clip_shape, value, np.uint8)
    orders = orders_of(key, geometry)
    encrypted = encrypt(PlainClip(values=clip), orders, step=min_step(geometry))
    assert np.abs(encrypted.values[COEFFICIENTS]).max() in (2032, 2048)
    np.testing.assert_allclose(decrypt(encrypted, orders).values, clip, atol=1)


def test_leading_axes_and_single_clips_are_kept(key: SecurityKey) -> None:
    orders = orders_of(key)
    clips = np.stack([noise(seed=seed) for seed in range(6)]).reshape(2, 3, *GEOMETRY.clip_shape)
    together = encrypt(PlainClip(values=clips), orders)
    assert together.values.shape == (2, 3)
    assert encrypt(PlainClip(values=clips[1, 2]), orders).values.tobytes() == together.values[1, 2].tobytes()
    assert decrypt(together, orders).values.shape == clips.shape


def test_coefficients_have_no_negative_zero(key: SecurityKey) -> None:
    values = encrypt(PlainClip(values=noise()), orders_of(key), step=256.0).values[COEFFICIENTS]
    assert not np.signbit(values[values == 0]).any()


def test_steps_out_of_range_or_without_use_are_refused(key: SecurityKey) -> None:
    for step in (0.0, 1.0, 257.0, float("nan")):
        with pytest.raises(ValueError, match=r"expected a step from 1\.225 to 256"):
            encrypt(PlainClip(values=noise()), orders_of(key), step=step)
    with pytest.raises(ValueError, match="has no quantisation step"):
        encrypt(PlainClip(values=noise()), derive_orders(key, salt=SALT, geometry=GEOMETRY), step=16.0)


def test_only_uint8_clips_are_encrypted(key: SecurityKey) -> None:
    import torch

    for clip in (noise().astype(np.float32), torch.zeros(GEOMETRY.clip_shape)):
        with pytest.raises(ValueError, match=r"dtype uint8, received (torch\.)?float32"):
            encrypt(PlainClip(values=clip), orders_of(key))


def require_same(received: np.ndarray, expected: np.ndarray) -> None:
    """Check that few coefficients differ, and by 1: libraries round differently near the edge of a step."""
    assert (received.dtype, received.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(received[STEP], expected[STEP])
    apart = np.abs(received[COEFFICIENTS].astype(np.float32) - expected[COEFFICIENTS])
    assert apart.max() <= 1
    assert np.count_nonzero(apart) < 1e-3 * apart.size


@pytest.mark.parametrize("text", GEOMETRIES)
def test_torch_encrypts_as_numpy_does(key: SecurityKey, text: str) -> None:
    import torch

    geometry = ClipGeometry.parse(text)
    orders, clips = orders_of(key, geometry), np.stack([noise(geometry, seed) for seed in (1, 2)])[:, None]
    received = encrypt(PlainClip(values=torch.from_numpy(clips)), orders, step=12.0)
    require_same(received.values, encrypt(PlainClip(values=clips), orders, step=12.0).values)
    assert received.binding == binding_of(orders, Layout.CUBES)


def test_on_a_device_nothing_becomes_a_numpy_array_before_the_last_step(key: SecurityKey) -> None:
    orders, xp = orders_of(key), namespace()
    clips = np.stack([noise(seed=seed) for seed in (1, 2)])
    received = quantised(xp.asarray(clips), orders, xp, step=12.0)
    require_same(received, encrypt(PlainClip(values=clips), orders, step=12.0).values)


@pytest.mark.gpu(library="cupy")
@pytest.mark.parametrize("text", [*GEOMETRIES, "16x224x224x3/2x16x16"])
def test_gpu_encryption_of_coefficients_on_the_device(key: SecurityKey, text: str) -> None:
    import cupy

    geometry = ClipGeometry.parse(text)
    orders, clips = orders_of(key, geometry), np.stack([noise(geometry, seed) for seed in (1, 2)])
    received = encrypt(PlainClip(values=cupy.asarray(clips)), orders, step=12.0)
    require_same(received.values, encrypt(PlainClip(values=clips), orders, step=12.0).values)


@pytest.mark.parametrize("block", [1, 7 * GEOMETRY.values, 2**30])
def test_blocks_of_any_size_give_the_same_coefficients(
    key: SecurityKey, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encrypt(PlainClip(values=noise()), orders_of(key)).values
    monkeypatch.setattr(coefficients, "_BLOCK_VALUES", block)
    require_same(encrypt(PlainClip(values=noise()), orders_of(key)).values, expected)


def test_cubes_with_large_transforms_are_refused(key: SecurityKey) -> None:
    geometry = ClipGeometry.parse("1x2048x1x1/1x2048x1")
    with pytest.raises(ValueError, match="at most 1024"):
        encrypt(PlainClip(values=noise(geometry)), orders_of(key, geometry))


def test_the_scheme_has_the_layout_of_cubes(key: SecurityKey) -> None:
    with pytest.raises(ValueError, match="has the layout cubes"):
        encrypt(PlainClip(values=noise()), orders_of(key), layout=Layout.VIDEO)
    binding = binding_of(orders_of(key), Layout.CUBES)
    assert binding.scheme == "lcve-dct-1"
    with pytest.raises(ValueError, match="a record of a step and coefficients"):
        EncryptedClip(values=np.zeros((1, 64, 384), np.uint8), binding=binding)


def test_clips_of_one_scheme_are_not_those_of_the_other(key: SecurityKey) -> None:
    raw = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    with pytest.raises(MismatchError, match="scheme"):
        decrypt(encrypt(PlainClip(values=noise()), orders_of(key)), raw)
    with pytest.raises(MismatchError, match="scheme"):
        decrypt(encrypt(PlainClip(values=noise()), raw), orders_of(key))


def test_clips_are_moved_to_another_key_bit_for_bit(key: SecurityKey) -> None:
    old, new = orders_of(key), orders_of(OTHER)
    clip = PlainClip(values=noise()[None])
    moved = reencrypt(encrypt(clip, old), old, new)
    assert moved.binding == binding_of(new, Layout.CUBES)
    assert moved.values.tobytes() == encrypt(clip, new).values.tobytes()
    with pytest.raises(MismatchError, match="key id"):
        reencrypt(encrypt(clip, new), old, new)


def test_tensors_are_moved_to_another_key_with_their_signs(key: SecurityKey) -> None:
    old, new = orders_of(key), orders_of(OTHER)
    rng = np.random.default_rng(0)
    plain, table = rng.normal(size=(GEOMETRY.values, 5)).astype(np.float32), rng.normal(size=(GEOMETRY.cubes, 5))

    def scrambled(orders: Orders) -> dict[str, np.ndarray]:
        assert orders.signs is not None
        signed = plain * orders.signs[:, None].astype(np.float32)
        return {"cube_embedding.weight": signed[orders.pixel_order], "positional_encoding": table[orders.cube_order]}

    moved = rotate_tensors(scrambled(old), old, new)
    for name, tensor in scrambled(new).items():
        np.testing.assert_array_equal(moved[name], tensor)
        assert moved[name].dtype == tensor.dtype
    with pytest.raises(ValueError, match="same scheme"):
        rotate_tensors(scrambled(old), old, dataclasses.replace(new, signs=None))


def test_a_binding_of_the_scheme_reads_as_text() -> None:
    binding = Binding(scheme=Scheme.DCT, key_id="a" * 32, salt="b" * 32, geometry=GEOMETRY, layout=Layout.CUBES)
    assert f"{binding.scheme}" == str(binding.scheme) == "lcve-dct-1"
