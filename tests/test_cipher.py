from __future__ import annotations

import gc
import hashlib
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lcve_deploy import ClipGeometry, Layout, PlainClip, SecurityKey, decrypt, derive_orders, encrypt
from lcve_deploy.cipher import clips, device_tables, gpu, pairs
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import MismatchError, MissingDependencyError
from tests.conftest import GEOMETRY, SALT

LAYOUTS = list(Layout)
CUBES = Layout.CUBES


@st.composite
def geometries(draw: st.DrawFn) -> ClipGeometry:
    size = st.integers(1, 3)
    cube = (draw(size), draw(size), draw(size))
    t, h, w = (step * draw(size) for step in cube)
    return ClipGeometry(frames=t, height=h, width=w, channels=draw(st.integers(1, 4)), cube=cube)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("cubes", "abd1fd5877371b1efe490d2bff21e583a6e18774ef6e6590f63684b13655e6ca"),
        ("video", "aac360218a1071d87a78ac87b847062bd0c35e74a46967077c4cfe07a3c4772a"),
    ],
)
def test_the_encrypted_clip_is_that_of_the_format(key: SecurityKey, layout: str, expected: str) -> None:
    clip = ((np.arange(24576) * 7919) % 251).astype(np.uint8).reshape(8, 32, 32, 3)
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    encrypted = encrypt(PlainClip(values=clip), orders, layout=layout).values
    assert hashlib.sha256(np.ascontiguousarray(encrypted).tobytes()).hexdigest() == expected


@settings(deadline=None, max_examples=60)
@given(
    geometry=geometries(),
    lead=st.lists(st.integers(0, 2), max_size=3),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([np.uint8, np.float32, np.float64, np.int16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_decrypting_gives_the_clip_back(
    geometry: ClipGeometry, lead: list[int], layout: Layout, dtype: type[np.generic], seed: int
) -> None:
    orders = derive_orders(SecurityKey.create(), salt=SALT, geometry=geometry)
    clip: np.ndarray = np.random.default_rng(seed).integers(0, 255, (*lead, *geometry.clip_shape)).astype(dtype)
    encrypted = encrypt(PlainClip(values=clip), orders, layout=layout)
    assert encrypted.values.shape == (*lead, *layout.shape(geometry))
    assert encrypted.values.dtype == dtype
    np.testing.assert_array_equal(decrypt(encrypted, orders).values, clip)


def test_every_value_goes_where_the_format_says(key: SecurityKey) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    clip = np.random.default_rng(0).integers(0, 256, GEOMETRY.clip_shape, dtype=np.uint8)
    plain = GEOMETRY.to_cubes(clip, np)
    encrypted = encrypt(PlainClip(values=clip), orders).values
    for i, j in [(0, 0), (5, 17), (63, 383)]:
        assert encrypted[i, j] == plain[orders.cube_order[i], orders.pixel_order[j]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_and_numpy_agree(key: SecurityKey, clip: np.ndarray, layout: Layout) -> None:
    torch = pytest.importorskip("torch")
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    batch = np.stack([clip, clip[::-1]])
    expected = encrypt(PlainClip(values=batch), orders, layout=layout)
    received = encrypt(PlainClip(values=torch.from_numpy(batch)), orders, layout=layout)
    assert isinstance(received.values, torch.Tensor)
    np.testing.assert_array_equal(received.values.numpy(), expected.values)
    np.testing.assert_array_equal(decrypt(received, orders).values.numpy(), batch)


def test_a_clip_of_another_geometry_is_refused(key: SecurityKey) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    with pytest.raises(ValueError, match=r"\[8, 32, 32, 3\], received \[8, 3, 32, 32\]"):
        encrypt(PlainClip(values=np.zeros((8, 3, 32, 32), np.uint8)), orders)


@pytest.mark.parametrize(
    "shape", [(16, 32, 32, 3), (8, 64, 32, 3), (8, 32, 64, 3), (8, 32, 32, 4), (8, 32, 32, 1), (32, 32, 3)], ids=str
)
@pytest.mark.parametrize("layout", list(Layout))
def test_every_axis_of_a_clip_must_be_that_of_the_geometry(
    key: SecurityKey, layout: Layout, shape: tuple[int, ...]
) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    with pytest.raises(ValueError, match="expected clips that end in the axes"):
        encrypt(PlainClip(values=np.zeros(shape, np.uint8)), orders, layout=layout)


@pytest.mark.parametrize("changed", ["key", "salt"])
def test_decrypting_for_another_key_or_salt_is_refused(key: SecurityKey, clip: np.ndarray, changed: str) -> None:
    encrypted = encrypt(PlainClip(values=clip), derive_orders(key, salt=SALT, geometry=GEOMETRY))
    other = derive_orders(
        SecurityKey(bytes(32)) if changed == "key" else key,
        salt=bytes(16) if changed == "salt" else SALT,
        geometry=GEOMETRY,
    )
    with pytest.raises(MismatchError, match="key id" if changed == "key" else "salt"):
        decrypt(encrypted, other)


def test_numpy_clips_load_no_other_array_library() -> None:
    code = (
        "import sys, numpy as np\n"
        "from lcve_deploy import *\n"
        "g = ClipGeometry.parse('2x2x2x3/1x1x1')\n"
        "o = derive_orders(SecurityKey.create(), salt=bytes(16), geometry=g)\n"
        "encrypt(PlainClip(values=np.zeros(g.clip_shape, np.uint8)), o)\n"
        "print([m for m in ('torch', 'cupy', 'array_api_compat') if m in sys.modules])\n"
    ).replace(
        "from lcve_deploy import *",
        "from lcve_deploy import ClipGeometry, PlainClip, SecurityKey, derive_orders, encrypt",
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_other_arrays_need_array_api_compat_and_say_so(
    key: SecurityKey, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Foreign:
        shape, dtype = clip.shape, clip.dtype

    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    with pytest.raises(MissingDependencyError, match="test_cipher need array-api-compat"):
        encrypt(PlainClip(values=Foreign()), orders)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(geometry=geometries(), lead=st.sampled_from([(), (1,), (2,), (2, 3)]))
@settings(max_examples=25, deadline=None)
def test_one_gather_gives_the_same_bytes(layout: Layout, geometry: ClipGeometry, lead: tuple[int, ...]) -> None:
    """What a GPU does with arrays that are not of CuPy, with torch on the CPU."""
    import torch
    from array_api_compat import torch as xp

    orders = derive_orders(SecurityKey(bytes(32)), salt=SALT, geometry=geometry)
    clip = np.random.default_rng(0).integers(0, 256, (*lead, *geometry.clip_shape), np.uint8)
    expected = encrypt(PlainClip(values=clip), orders, layout=layout).values
    taken = gpu.encrypted_on_gpu(torch.from_numpy(clip), orders, layout, xp)
    np.testing.assert_array_equal(taken.numpy(), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(geometry=geometries())
@settings(max_examples=50, deadline=None)
def test_the_tables_of_the_kernel_give_the_same_bytes(layout: Layout, geometry: ClipGeometry) -> None:
    """The kernel's own arithmetic, in NumPy, wherever the kernel is used."""
    orders = derive_orders(SecurityKey(bytes(32)), salt=SALT, geometry=geometry)
    clip = np.random.default_rng(0).integers(0, 256, geometry.clip_shape, np.uint8)
    assume(gpu._has_words(clip, geometry, layout))
    expected = encrypt(PlainClip(values=clip), orders, layout=layout).values
    from_cubes, from_values, to_cubes, to_words = gpu._words(orders, layout)
    assert to_cubes.min() >= 0
    assert not (to_cubes % 4).any()
    assert not (to_words % 4).any()
    result = np.zeros(clip.size, np.uint8)
    to = to_cubes[:, None, None] + to_words[None, :, None] + np.arange(4)
    result[to] = clip.reshape(-1)[from_cubes[:, None, None] + from_values.reshape(-1, 4)]
    np.testing.assert_array_equal(result, expected.reshape(-1))


def test_the_kernel_takes_bytes_whose_runs_are_words() -> None:
    even, odd = (ClipGeometry(frames=2, height=8, width=width, cube=(1, 4, width // 2), channels=1) for width in (8, 6))
    clip = np.zeros((2, 8, 8, 1), np.uint8)
    assert [gpu._has_words(clip, even, layout) for layout in LAYOUTS] == [True, True]
    assert {layout: gpu._has_words(clip, odd, layout) for layout in LAYOUTS} == {"cubes": True, "video": False}
    assert not gpu._has_words(clip.astype(np.float32), even, Layout.CUBES)


def test_on_a_gpu_the_index_is_made_once_and_goes_with_its_orders(
    key: SecurityKey, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    made, real = [], gpu._index
    monkeypatch.setattr(clips, "is_on_gpu", lambda values, geometry: True)
    monkeypatch.setattr(gpu, "_index", lambda *given: made.append(1) or real(*given))
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    expected = clips._encrypted_cubes(clip, orders, np)
    for _ in range(3):
        encrypted = encrypt(PlainClip(values=torch.from_numpy(clip)), orders)
        np.testing.assert_array_equal(np.asarray(encrypted.values), expected)
    assert len(made) == 1
    kept = len(device_tables._TABLES)
    del orders, encrypted
    gc.collect()
    assert len(device_tables._TABLES) == kept - 1


def test_a_clip_that_is_too_large_for_an_index_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class OnGpu(torch.Tensor):
        device = torch.device("cuda")

    on_gpu = torch.zeros(GEOMETRY.clip_shape, dtype=torch.uint8).as_subclass(OnGpu)
    assert gpu.is_on_gpu(on_gpu, GEOMETRY)
    monkeypatch.setattr(gpu, "_MAX_VALUES", 1)
    assert not gpu.is_on_gpu(on_gpu, GEOMETRY)
    assert not gpu.is_on_gpu(np.zeros(GEOMETRY.clip_shape), GEOMETRY)


@pytest.mark.gpu(library="cupy")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [48, 42, 45])
def test_gpu_encryption_on_the_device_gives_the_same_bytes(key: SecurityKey, layout: Layout, width: int) -> None:
    """Widths that the kernel takes in both layouts, in one, and in none."""
    import cupy

    geometry = ClipGeometry(frames=4, height=32, width=width, cube=(2, 16, width // 3), channels=3 if width < 48 else 1)
    orders = derive_orders(key, salt=SALT, geometry=geometry)
    for dtype in (np.uint8, np.float32):
        clip = np.random.default_rng(0).integers(0, 256, (3, *geometry.clip_shape)).astype(dtype)
        expected = encrypt(PlainClip(values=clip), orders, layout=layout)
        on_device = encrypt(PlainClip(values=cupy.asarray(clip)), orders, layout=layout)
        np.testing.assert_array_equal(on_device.values.get(), expected.values)
        turned = cupy.asarray(np.asfortranarray(clip))
        np.testing.assert_array_equal(
            encrypt(PlainClip(values=turned), orders, layout=layout).values.get(), expected.values
        )
        np.testing.assert_array_equal(decrypt(on_device, orders).values.get(), clip)


@settings(deadline=None, max_examples=150)
@given(
    geometry=geometries(),
    lead=st.sampled_from([(), (0,), (1,), (3,), (2, 2)]),
    layout=st.sampled_from(LAYOUTS),
    block=st.sampled_from([1, 24, 100, 400, 2**19]),
    view=st.sampled_from(["contiguous", "reversed", "transposed", "read-only", "every other"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_two_rows_at_a_time_give_the_same_bytes(
    geometry: ClipGeometry, lead: tuple[int, ...], layout: Layout, block: int, view: str, seed: int
) -> None:
    """With any size of blocks, and any memory layout: the bytes of the definition, and the clip again."""
    orders = derive_orders(SecurityKey(bytes(32)), salt=SALT, geometry=geometry)
    clip = arranged(np.random.default_rng(seed).integers(0, 256, (*lead, *geometry.clip_shape), np.uint8), view)
    expected = geometry.to_cubes(clip, np)[..., orders.cube_order, :][..., orders.pixel_order]
    if layout is Layout.VIDEO:
        expected = geometry.from_cubes(expected, np)
    before = clip.copy()
    with mock.patch.object(pairs, "_BLOCK_BYTES", block):
        received = encrypt(PlainClip(values=clip), orders, layout=layout)
        np.testing.assert_array_equal(received.values, expected)
        again = EncryptedClip(values=arranged(received.values, view), binding=received.binding)
        np.testing.assert_array_equal(decrypt(again, orders).values, before)
    np.testing.assert_array_equal(clip, before)
    if not geometry.row_values % 2:
        np.testing.assert_array_equal(clips._encrypted_cubes(clip, orders, np), pairs.encrypted(clip, orders, CUBES))


def arranged(values: np.ndarray, view: str) -> np.ndarray:
    """The same values, in memory as the view says."""
    if view == "reversed":
        return np.ascontiguousarray(values[..., ::-1])[..., ::-1]
    if view == "transposed":
        return np.ascontiguousarray(values.T).T
    if view == "every other":
        return np.repeat(values, 2, axis=-1)[..., ::2]
    values = values.copy()
    values.setflags(write=view != "read-only")
    return values


def test_only_plain_arrays_of_bytes_go_two_rows_at_a_time() -> None:
    even, odd = ClipGeometry.parse("2x3x3x2/1x1x1"), ClipGeometry.parse("2x3x3x1/1x1x1")
    assert pairs.are_paired(np.zeros(even.clip_shape, np.uint8), even)
    assert not pairs.are_paired(np.zeros(odd.clip_shape, np.uint8), odd)
    assert not pairs.are_paired(np.zeros(even.clip_shape, np.int8), even)
    assert not pairs.are_paired(np.ma.masked_array(np.zeros(even.clip_shape, np.uint8)), even)
