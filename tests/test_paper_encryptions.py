"""The compared encryptions: lossless, keyed, and what the paper says they are, by slow references of their own."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcve_deploy import ClipGeometry
from lcve_deploy.cipher.clips import encrypt
from lcve_deploy.clips import Layout, PlainClip
from lcve_deploy.keys.keyspace import Level, key_spaces
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.samples import real_clips
from lcve_deploy.video import read_clips
from lcve_deploy.video.write import write_video
from paper.experiments import dataset
from paper.methods.downsampling import downsample
from paper.methods.encryption import at_level
from paper.methods.learnable_encryption import LearnableEncryption, learnable_encryption
from paper.methods.shuffles import Shuffle, qi, sub_cube_order
from paper.methods.table import DOWNSAMPLINGS, ENCRYPTIONS, Method, encryption, experiment_key

PAPERS = ClipGeometry.parse("16x224x224x3/2x16x16")
SMALL = ClipGeometry.parse("4x8x12x3/2x4x4")

every_method = pytest.mark.parametrize("method", ENCRYPTIONS, ids=lambda method: method.name)


def noise(geometry: ClipGeometry, clips: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (clips, *geometry.clip_shape), dtype=np.uint8)


def blocks_of(clip: np.ndarray, geometry: ClipGeometry, level: Level) -> list[np.ndarray]:
    """Blocks ``[t, h, w, C]`` of one clip in row-major order; of frames one after another at the frame level."""
    t, h, w = geometry.cube
    t = 1 if level is Level.FRAME else t
    frames, height, width, _ = clip.shape
    places = itertools.product(range(0, frames, t), range(0, height, h), range(0, width, w))
    return [clip[f : f + t, y : y + h, x : x + w] for f, y, x in places]


# Lossless.


@every_method
def test_the_inverse_is_lossless_on_a_film_at_the_papers_geometry(method: Method) -> None:
    clips = real_clips(PAPERS)
    keyed = method.keyed(experiment_key(1), PAPERS)
    encrypted = keyed.encrypt(clips)
    assert encrypted.dtype == np.uint8
    assert encrypted.shape == clips.shape
    assert (encrypted != clips).mean() > 0.9
    assert np.array_equal(keyed.decrypt(encrypted), clips)


@pytest.fixture(scope="module")
def video_clip(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """A clip that was decoded from a video file."""
    path: Path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, real_clips(PAPERS)[0])
    preprocess = Preprocess(frames=16, short_side=224, crop=(224, 224))
    return np.asarray(read_clips(path, preprocess, PAPERS).clip.values)


@every_method
def test_the_inverse_is_lossless_on_a_video_file(method: Method, video_clip: np.ndarray) -> None:
    keyed = method.keyed(experiment_key(2), PAPERS)
    assert np.array_equal(keyed.decrypt(keyed.encrypt(video_clip)), video_clip)


@every_method
def test_the_inverse_is_lossless_on_moving_digits(method: Method) -> None:
    clips = dataset._drawn(16, held_out=True, seed=1).clips
    keyed = method.keyed(experiment_key(3), dataset.GEOMETRY)
    assert np.array_equal(keyed.decrypt(keyed.encrypt(clips)), clips)


@every_method
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_inverse_is_lossless_at_any_geometry(method: Method, data: st.DataObject) -> None:
    sides = [data.draw(st.sampled_from(sizes)) for sizes in ((1, 2, 4), (2, 4, 6), (2, 4, 8))]
    grid = [data.draw(st.integers(1, 3)) for _ in range(3)]
    frames, height, width = (side * count for side, count in zip(sides, grid, strict=True))
    channels = data.draw(st.sampled_from((1, 3, 4)))
    geometry = ClipGeometry(
        frames=frames, height=height, width=width, channels=channels, cube=(sides[0], sides[1], sides[2])
    )
    clips = noise(geometry, clips=2, seed=data.draw(st.integers(0, 99)))
    keyed = method.keyed(experiment_key(data.draw(st.integers(0, 99))), geometry)
    assert np.array_equal(keyed.decrypt(keyed.encrypt(clips)), clips)


@pytest.mark.parametrize("method", [one for one in ENCRYPTIONS if one.make is not qi], ids=lambda one: one.name)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_only_qi_needs_even_cubes(method: Method, data: st.DataObject) -> None:
    t, h, w = (data.draw(st.sampled_from((1, 3, 5))) for _ in range(3))
    rows, columns = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    geometry = ClipGeometry(frames=2 * t, height=rows * h, width=columns * w, channels=2, cube=(t, h, w))
    clips = noise(geometry, clips=2)
    keyed = method.keyed(experiment_key(data.draw(st.integers(0, 99))), geometry)
    assert np.array_equal(keyed.decrypt(keyed.encrypt(clips)), clips)


@every_method
def test_clips_are_encrypted_one_by_one(method: Method) -> None:
    clips, keyed = noise(SMALL, clips=3), method.keyed(experiment_key(1), SMALL)
    assert np.array_equal(keyed.encrypt(clips), np.concatenate([keyed.encrypt(clip[None]) for clip in clips]))
    assert keyed.decrypt(keyed.encrypt(clips[:0])).shape == (0, *SMALL.clip_shape)


@every_method
def test_clips_of_another_geometry_are_refused_and_never_mixed(method: Method) -> None:
    keyed = method.keyed(experiment_key(1), SMALL)
    shapes = [(1, 4, 12, 8, 3), (3, 4, 8, 12, 1), (1, 4, 16, 6, 3)]
    shapes += [(2, 2, 8, 12, 3)] if method.level is Level.VIDEO else []  # frames by themselves are no matter of T
    for shape in shapes:
        for work in (keyed.encrypt, keyed.decrypt):
            with pytest.raises(ValueError, match=r"expected clips that end in the axes \[., 8, 12, 3\].*, received"):
                work(np.zeros(shape, np.uint8))


@every_method
def test_another_key_is_another_encryption_and_does_not_decrypt(method: Method) -> None:
    clips = noise(PAPERS)
    one, again, other = (method.keyed(experiment_key(number), PAPERS) for number in (0, 0, 1))
    encrypted = one.encrypt(clips)
    assert np.array_equal(again.encrypt(clips), encrypted)
    assert (other.encrypt(clips) == encrypted).mean() < 0.02
    assert (other.decrypt(encrypted) == clips).mean() < 0.02


@every_method
def test_every_order_comes_from_the_key(method: Method) -> None:
    """Not only some of them, which would be enough for ciphertexts to differ."""
    keyed = [method.keyed(experiment_key(number), SMALL) for number in range(3)]
    drawn = [
        {"order": one.order, "reversed": one.reversed_halves}
        if isinstance(one, LearnableEncryption)
        else {"cubes": cast(Shuffle, one).orders.cube_order, "values": cast(Shuffle, one).orders.pixel_order}
        for one in keyed
    ]
    stay = {"pixel": {"cubes"}, "cube": {"values"}}.get(method.name.split("-")[0], set())
    for name in drawn[0]:
        assert len({orders[name].tobytes() for orders in drawn}) == (1 if name in stay else 3), name


def test_levels_have_orders_of_their_own() -> None:
    clips = noise(SMALL)
    seen = {method.name: method.keyed(experiment_key(0), SMALL).encrypt(clips).tobytes() for method in ENCRYPTIONS}
    assert len(set(seen.values())) == len(ENCRYPTIONS)


# What each one does, against references written from the paper's words.


def shuffle(name: str, number: int, geometry: ClipGeometry) -> Shuffle:
    keyed = encryption(name).keyed(experiment_key(number), geometry)
    assert isinstance(keyed, Shuffle)
    return keyed


@pytest.mark.parametrize("level", Level)
def test_pixel_shuffle_moves_values_inside_of_blocks_alike(level: Level) -> None:
    clip = noise(SMALL)
    keyed = shuffle(f"pixel-{level}", 4, SMALL)
    order = keyed.orders.pixel_order
    pairs = zip(blocks_of(keyed.encrypt(clip)[0], SMALL, level), blocks_of(clip[0], SMALL, level), strict=True)
    for encrypted, plain in pairs:
        flat = plain.flatten()
        assert [flat[place] for place in order] == list(encrypted.flatten())


@pytest.mark.parametrize("level", Level)
def test_cube_shuffle_moves_whole_blocks(level: Level) -> None:
    clip = noise(SMALL)
    keyed = shuffle(f"cube-{level}", 4, SMALL)
    plain = [block.tobytes() for block in blocks_of(clip[0], SMALL, level)]
    encrypted = [block.tobytes() for block in blocks_of(keyed.encrypt(clip)[0], SMALL, level)]
    assert sorted(plain) == sorted(encrypted)
    in_frame = len(plain) // SMALL.frames if level is Level.FRAME else len(plain)
    moves = [plain.index(block) for block in encrypted]
    for first in range(0, len(plain), in_frame):  # every frame by itself, all alike
        assert [move - first for move in moves[first : first + in_frame]] == list(keyed.orders.cube_order)
    assert moves != sorted(moves)


@pytest.mark.parametrize("level", Level)
def test_lcve_is_both_of_them(level: Level) -> None:
    clip, key = noise(SMALL), experiment_key(4)
    pixel, cube, both = (encryption(f"{name}-{level}").keyed(key, SMALL) for name in ("pixel", "cube", "lcve"))
    assert np.array_equal(both.encrypt(clip), pixel.encrypt(cube.encrypt(clip)))


@pytest.mark.parametrize("level", Level)
def test_lcve_is_the_packages_own(level: Level) -> None:
    clips, key = noise(PAPERS), experiment_key(5)
    geometry = PAPERS if level is Level.VIDEO else ClipGeometry.parse("1x224x224x3/1x16x16")
    orders = derive_orders(key, salt=bytes(16), geometry=geometry)
    parts = clips[0].reshape(-1, *geometry.clip_shape)
    expected = [encrypt(PlainClip(values=part), orders, layout=Layout.VIDEO).values for part in parts]
    assert np.array_equal(encryption(f"lcve-{level}").keyed(key, PAPERS).encrypt(clips)[0], np.concatenate(expected))


@pytest.mark.parametrize("level", Level)
def test_le_reverses_and_shuffles_halves_of_bytes(level: Level) -> None:
    """Split into six channels of four bits, reverse intensities, shuffle; the same in every block."""
    clip = noise(SMALL)
    keyed = learnable_encryption(experiment_key(6), SMALL, level)
    pairs = zip(blocks_of(keyed.encrypt(clip)[0], SMALL, level), blocks_of(clip[0], SMALL, level), strict=True)
    for encrypted, plain in pairs:
        bytes_ = [int(value) for value in plain.flatten()]
        six_channels = [value // 16 for value in bytes_] + [value % 16 for value in bytes_]
        turned = [15 - half if turn else half for half, turn in zip(six_channels, keyed.reversed_halves, strict=True)]
        shuffled = [turned[place] for place in keyed.order]
        middle = len(bytes_)
        joined = [16 * upper + lower for upper, lower in zip(shuffled[:middle], shuffled[middle:], strict=True)]
        assert joined == [int(value) for value in encrypted.flatten()]
    assert 0.3 < keyed.reversed_halves.mean() < 0.7


def test_le_draws_what_is_reversed_apart_from_where_it_goes() -> None:
    """In Tanaka's program it is the order that says what is reversed; the key space of Table 1 has both."""
    keyed = learnable_encryption(experiment_key(6), PAPERS, Level.VIDEO)
    for place in (np.arange(len(keyed.order)), keyed.order, np.argsort(keyed.order)):
        upper = place < PAPERS.values
        for part in (keyed.reversed_halves[upper], keyed.reversed_halves[~upper]):
            assert 0.4 < part.mean() < 0.6


def test_le_gives_six_channels_of_four_bits_too() -> None:
    keyed = learnable_encryption(experiment_key(6), SMALL, Level.VIDEO)
    halves = keyed.encrypt_halves(noise(SMALL))
    assert halves.shape == (1, SMALL.cubes, 2 * SMALL.values)
    assert halves.max() == 15


@pytest.mark.parametrize("level", Level)
def test_qi_moves_whole_pixels_inside_of_sub_cubes_alike_and_then_cubes(level: Level) -> None:
    keyed = shuffle(f"qi-{level}", 7, PAPERS)
    orders, blocks = keyed.orders, at_level(level, PAPERS)
    t, h, w = blocks.cube
    sub = (max(t // 2, 1), h // 2, w // 2)
    assert sub == (1, 8, 8)
    moved = orders.pixel_order.reshape(t, h, w, 3)
    assert np.array_equal(moved - moved[..., :1], np.broadcast_to([0, 1, 2], moved.shape))  # RGB stays together
    seen = set()
    for corner in itertools.product(range(0, t, sub[0]), range(0, h, sub[1]), range(0, w, sub[2])):
        inside = []
        for offset in itertools.product(*map(range, sub)):
            place = tuple(np.add(corner, offset))
            from_ = np.unravel_index(moved[place][0] // 3, (t, h, w))
            relative = tuple(int(value) for value in np.subtract(from_, corner))
            assert all(0 <= step < side for step, side in zip(relative, sub, strict=True))
            inside.append(relative)
        seen.add(tuple(inside))
    assert len(seen) == 1  # the same in every sub-cube
    assert seen != {tuple(itertools.product(*map(range, sub)))}
    assert not np.array_equal(orders.cube_order, np.arange(blocks.cubes))


@pytest.mark.parametrize("text", ["4x8x12x3/2x4x4", "3x8x16x3/1x4x8", "8x12x8x3/4x6x4"])
@pytest.mark.parametrize("level", Level)
def test_qi_seen_from_outside(level: Level, text: str) -> None:
    """The same, told from a ciphertext alone: every pixel of the plain clip has a colour of its own."""
    geometry = ClipGeometry.parse(text)
    t, h, w = geometry.cube
    t = 1 if level is Level.FRAME else t
    sub = (max(t // 2, 1), h // 2, w // 2)
    places: dict[tuple[int, ...], tuple[int, ...]] = {
        (f, y, x): (f, y, x) for f, y, x in np.ndindex(geometry.clip_shape[:3])
    }
    clip = np.array(list(places), np.uint8).reshape(geometry.clip_shape)
    encrypted = encryption(f"qi-{level}").keyed(experiment_key(7), geometry).encrypt(clip[None])[0]
    cubes: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    inside: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for to in places:
        from_ = places[tuple(int(value) for value in encrypted[to])]  # a KeyError were a pixel torn apart
        cube_to, cube_from = (tuple(np.floor_divide(place, (t, h, w)).tolist()) for place in (to, from_))
        cubes.setdefault(cube_to, set()).add(cube_from)
        part_to, part_from = (tuple((np.mod(place, (t, h, w)) // sub).tolist()) for place in (to, from_))
        assert part_to == part_from  # sub-cubes stay where they are in their cube
        inside.setdefault(tuple(np.mod(to, sub).tolist()), set()).add(tuple(np.mod(from_, sub).tolist()))
    assert all(len(seen) == 1 for seen in (*cubes.values(), *inside.values()))  # cubes whole, sub-cubes all alike
    assert any({to} != from_ for to, from_ in cubes.items())
    assert any({to} != from_ for to, from_ in inside.items())
    if level is Level.FRAME:
        assert all({to[0]} == {place[0] for place in from_} for to, from_ in cubes.items())
        assert len({tuple(next(iter(from_))[1:] for to, from_ in cubes.items() if to[0] == f) for f in range(3)}) == 1


@pytest.mark.parametrize("method", [one for one in ENCRYPTIONS if one.level is Level.FRAME], ids=lambda one: one.name)
def test_at_the_frame_level_nothing_leaves_its_frame_and_frames_are_alike(method: Method) -> None:
    frame = noise(SMALL)[:, :1]
    still = np.repeat(frame, SMALL.frames, axis=1)
    encrypted = method.keyed(experiment_key(8), SMALL).encrypt(still)
    assert all(np.array_equal(encrypted[:, 0], encrypted[:, i]) for i in range(SMALL.frames))
    other = still.copy()
    other[:, 2] = 255 - other[:, 2]
    changed = method.keyed(experiment_key(8), SMALL).encrypt(other) != encrypted
    assert [bool(changed[:, i].any()) for i in range(SMALL.frames)] == [False, False, True, False]


@pytest.mark.parametrize("geometry", [PAPERS, dataset.GEOMETRY], ids=str)
def test_key_spaces_are_those_of_table_1(geometry: ClipGeometry) -> None:
    """Counted from what is drawn: lengths of free orders, and what may be reversed."""
    sizes = {(space.method.split()[0].lower(), space.level): space.numbers for space in key_spaces(geometry)}
    names = {"pixel": "pixel", "cube": "patch", "le": "le", "qi": "qi", "lcve": "lcve"}
    for method in ENCRYPTIONS:
        short = method.name.split("-")[0]
        table = "cube" if short == "cube" and method.level is Level.VIDEO else names[short]
        assert counted(method, geometry) == sizes[table, method.level], method.name


@pytest.mark.parametrize(
    ("name", "orders", "printed"),
    [
        ("pixel-frame", "768!", "1.8e1884"),
        ("cube-frame", "196!", "5.1e365"),
        ("le-frame", "1536!·2^1536", "3.9e4691"),
        ("qi-frame", "64!·196!", "6.4e454"),
        ("lcve-frame", "768!·196!", "9.3e2249"),
        ("pixel-video", "1536!", "1.6e4229"),
        ("cube-video", "1568!", "2.1e4331"),
        ("le-video", "3072!·2^3072", "1.3e10306"),
        ("qi-video", "64!·1568!", "2.7e4420"),
        ("lcve-video", "1536!·1568!", "3.5e8560"),
    ],
)
def test_what_is_drawn_makes_the_figures_that_the_paper_prints(name: str, orders: str, printed: str) -> None:
    method = next(one for one in ENCRYPTIONS if one.name == name)
    assert counted(method, PAPERS) == orders
    digits = sum(
        math.lgamma(int(factor[:-1]) + 1) / math.log(10) if factor.endswith("!") else int(factor[2:]) * math.log10(2)
        for factor in orders.split("·")
    )
    mantissa, exponent = printed.split("e")
    assert f"{10 ** (digits % 1):.1f}" == mantissa
    assert int(digits) == int(exponent)


def counted(method: Method, geometry: ClipGeometry) -> str:
    keyed, blocks = method.keyed(experiment_key(9), geometry), at_level(method.level, geometry)
    if isinstance(keyed, LearnableEncryption):
        return f"{len(keyed.order)}!·2^{len(keyed.reversed_halves)}"
    assert isinstance(keyed, Shuffle)
    asked: list[int] = []
    if method.make is qi:
        sub_cube_order(blocks, lambda size: asked.append(size) or np.arange(size))
        assert len(asked) == 1, "one order for all sub-cubes"
    values = asked[0] if method.make is qi else blocks.values
    moved = {
        values: not np.array_equal(keyed.orders.pixel_order, np.arange(blocks.values)),
        blocks.cubes: not np.array_equal(keyed.orders.cube_order, np.arange(blocks.cubes)),
    }
    return "·".join(f"{size}!" for size, moves in moved.items() if moves)


def test_a_cube_that_cannot_be_halved_has_no_sub_cubes() -> None:
    for text in ("4x9x8x3/2x3x4", "3x8x8x3/3x4x4", "4x8x8x3/2x1x4"):
        with pytest.raises(ValueError, match="sub-cubes halve the sides of a cube"):
            encryption("qi-video").keyed(experiment_key(0), ClipGeometry.parse(text))


def test_keys_of_experiments_can_be_made_again() -> None:
    assert experiment_key(3) == experiment_key(3)
    assert len({experiment_key(number).key_id for number in range(50)}) == 50


# Downsampling.


@pytest.mark.parametrize("factor", [1, *(method.factor for method in DOWNSAMPLINGS)])
def test_downsampling_gives_means_of_squares(factor: int) -> None:
    clips = dataset._drawn(8, held_out=True, seed=2).clips[:1, :2]
    small = downsample(clips, factor)
    assert small.shape == clips.shape
    for frame, y, x, channel in itertools.product(range(2), range(0, 64, factor), range(0, 64, factor), range(3)):
        if (y // factor + x // factor) % 7:  # a part of them is enough
            continue
        square = clips[0, frame, y : y + factor, x : x + factor, channel]
        mean = sum(int(value) for value in square.flatten()) / square.size
        shown = small[0, frame, y : y + factor, x : x + factor, channel]
        assert shown.min() == shown.max()
        assert abs(int(shown[0, 0]) - mean) <= 0.5
    assert len(np.unique(small[0, 0, :, :, 0])) <= math.ceil(64 / factor) ** 2
    assert factor > 1 or np.array_equal(small, clips)


@pytest.mark.parametrize("factor", [32, 0, -2])
def test_factors_that_make_no_whole_squares_are_refused(factor: int) -> None:
    with pytest.raises(ValueError, match=f"divides the sides of frames, received {factor} for 48x64"):
        downsample(np.zeros((1, 2, 48, 64, 3), np.uint8), factor)
