"""Packed clips of ``lcve-dct-1``: bit for bit there and back; anything else is refused."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcve_deploy.clips import COEFFICIENTS, STEP, coefficient_record
from lcve_deploy.errors import EncryptedClipError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.packing import MAX_STEP, count_packed, max_packed, min_step, pack, random_records, require_step, unpack

GEOMETRY = ClipGeometry.parse("4x8x12x3/2x4x4")
SMALL = ClipGeometry.parse("2x4x4x1/1x4x4")
WIDE = ClipGeometry.parse("12x4x4x1/1x4x4")
HEADER = struct.Struct("<4sIIfIIII")


def records(values: np.ndarray, step: float = 16.0, geometry: ClipGeometry = GEOMETRY) -> np.ndarray:
    made = np.zeros(len(values), coefficient_record(geometry))
    made[STEP], made[COEFFICIENTS] = step, values
    return made


def sparse(seed: int, density: float, largest: int, clips: int = 1, geometry: ClipGeometry = GEOMETRY) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (clips, geometry.cubes, geometry.values)
    kept = rng.random(shape) < density
    return records(np.where(kept, rng.integers(-largest, largest + 1, shape), 0), geometry=geometry)


def with_checksum(data: bytes) -> bytes:
    return data[:8] + zlib.crc32(data[12:]).to_bytes(4, "little") + data[12:]


def packed_parts(data: bytes) -> tuple[list[object], list[bytes]]:
    fields = list(HEADER.unpack_from(data))
    ends = np.cumsum([HEADER.size, *fields[5:]])
    return fields, [data[first:last] for first, last in pairwise(ends)]


def rebuilt(fields: list[object], streams: list[bytes]) -> bytes:
    fields[5:] = [len(stream) for stream in streams]
    fields[1] = HEADER.size + sum(map(len, streams))
    return with_checksum(HEADER.pack(*fields) + b"".join(streams))


def deflated(content: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(content) + stream.flush()


def inflated(stream: bytes) -> bytes:
    return zlib.decompress(stream, wbits=-15)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]),
    largest=st.sampled_from([1, 126, 127, 128, 129, 2048]),
    clips=st.integers(1, 3),
    step=st.sampled_from([min_step(GEOMETRY), 16.0, 19.3, MAX_STEP]),
    pad=st.sampled_from([1, 7, 4096]),
)
def test_clips_come_back_bit_for_bit(
    seed: int, density: float, largest: int, clips: int, step: float, pad: int
) -> None:
    made = sparse(seed, density, largest, clips)
    made[STEP] = step
    data = pack(made, GEOMETRY, pad=pad)
    assert unpack(data, GEOMETRY, clips=clips).tobytes() == made.tobytes()
    assert len(data) % pad == 0
    assert pad > 1 or len(data) <= clips * max_packed(GEOMETRY)


@pytest.mark.parametrize("value", [0, -2048, 2048, 128, -128, 127])
def test_all_values_alike_come_back(value: int) -> None:
    made = records(np.full((1, GEOMETRY.cubes, GEOMETRY.values), value))
    assert unpack(pack(made, GEOMETRY), GEOMETRY, clips=1).tobytes() == made.tobytes()


def test_a_clip_without_coefficients_is_small() -> None:
    assert len(pack(records(np.zeros((1, GEOMETRY.cubes, GEOMETRY.values))), GEOMETRY)) < 60


@pytest.mark.parametrize("geometry", ["2x28x28x3/1x14x14", "3x9x5x1/3x3x5", "2x4x4x4/2x2x2"])
def test_any_geometry_is_packed(geometry: str) -> None:
    parsed = ClipGeometry.parse(geometry)
    made = random_records(parsed, 2)
    assert unpack(pack(made, parsed), parsed, clips=2).tobytes() == made.tobytes()


@pytest.mark.parametrize("value", [0.5, 2049, np.nan, np.inf])
def test_other_values_are_not_packed(value: float) -> None:
    made = records(np.zeros((1, GEOMETRY.cubes, GEOMETRY.values)))
    made[COEFFICIENTS][0, 3, 4] = value
    if value == 2049:
        made[COEFFICIENTS][0, 3, 4] = np.float16(2050)
    with pytest.raises(ValueError, match="integers from -2048 to 2048"):
        pack(made, GEOMETRY)


def test_more_large_values_than_a_clip_can_have_are_neither_packed_nor_unpacked() -> None:
    geometry = ClipGeometry.parse("2x32x32x3/2x32x32")
    full = np.zeros((1, 1, geometry.values))
    full[..., :258] = 500
    data = pack(records(full, geometry=geometry), geometry)
    assert np.array_equal(unpack(data, geometry, clips=1)[COEFFICIENTS], full)
    full[..., 258] = 500
    with pytest.raises(ValueError, match="at most 258 large"):
        pack(records(full, geometry=geometry), geometry)


@pytest.mark.parametrize("step", [0.0, -1.0, 0.999, 256.1, float("nan"), float("inf")])
def test_a_step_out_of_range_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match="expected a step from 1 to 256"):
        require_step(step, SMALL)
    made = records(np.zeros((1, 2, 16)), geometry=SMALL)
    fields, streams = packed_parts(pack(made, SMALL))
    fields[3] = step
    with pytest.raises(EncryptedClipError, match="expected a step"):
        unpack(rebuilt(fields, streams), SMALL, clips=1)


def test_the_smallest_step_grows_with_the_cube() -> None:
    assert min_step(ClipGeometry.parse("16x224x224x3/2x16x16")) == pytest.approx(2.449, abs=1e-3)
    assert min_step(SMALL) == 1


def test_every_flipped_byte_is_refused() -> None:
    data = pack(sparse(1, 0.1, 200, geometry=SMALL), SMALL)
    for place in range(len(data)):
        for bit in (1, 0x80):
            changed = bytearray(data)
            changed[place] ^= bit
            with pytest.raises(EncryptedClipError):
                unpack(bytes(changed), SMALL, clips=1)


def test_every_cut_is_refused() -> None:
    data = pack(sparse(1, 0.1, 200, clips=2, geometry=SMALL), SMALL)
    for size in range(len(data)):
        with pytest.raises(EncryptedClipError):
            unpack(data[:size], SMALL, clips=2)
    for more in (b"\0", b"LDCT", data):
        with pytest.raises(EncryptedClipError):
            unpack(data + more, SMALL, clips=2)


def test_another_number_of_clips_is_refused() -> None:
    data = pack(sparse(1, 0.1, 9, clips=2), GEOMETRY)
    assert count_packed(data, limit=2) == 2
    for clips in (0, 1, 3):
        with pytest.raises(EncryptedClipError, match="packed clips"):
            unpack(data, GEOMETRY, clips=clips)
    for bad, limit in ((data, 1), (b"", 9), (data[:-1], 9), (data + b"\0", 9)):
        with pytest.raises(EncryptedClipError, match="packed clips"):
            count_packed(bad, limit=limit)


def test_clips_that_would_fill_the_memory_are_refused() -> None:
    geometry = ClipGeometry.parse("64x1024x1024x3/2x16x16")
    with pytest.raises(EncryptedClipError, match="at most 8589934592 bytes"):
        unpack(b"", geometry, clips=30)


def test_padding_is_zeros() -> None:
    data = bytearray(pack(sparse(1, 0.1, 9), GEOMETRY, pad=4096))
    data[-1] = 1
    with pytest.raises(EncryptedClipError, match="and then zeros"):
        unpack(with_checksum(bytes(data)), GEOMETRY, clips=1)


def lies() -> dict[str, tuple[list[object], list[bytes]]]:
    """Valid checksums over contents that contradict themselves."""
    data = pack(sparse(3, 0.2, 300), GEOMETRY)
    made, escapes = {}, HEADER.unpack_from(data)[4]

    def lie(name: str, stream: int, change: object) -> None:
        fields, streams = packed_parts(data)
        content = bytearray(inflated(streams[stream]))
        change(content)  # type: ignore[operator]
        streams[stream] = deflated(bytes(content))
        made[name] = (fields, streams)

    def set_byte(place: int, value: int) -> object:
        return lambda content: content.__setitem__(place, value)

    lie("a larger count", 0, lambda content: content.__setitem__(0, content[0] + 1))
    lie("a huge count", 0, lambda content: content.__setitem__(-1, 255))
    lie("a bit more in the map", 1, lambda content: content.__setitem__(-1, content[-1] ^ 0x80))
    lie("a bit beyond the cubes", 1, lambda content: content.__setitem__(1, content[1] | 1))
    lie("a zero among the values", 2, set_byte(0, 0))
    lie("one escape more", 2, lambda content: content.__setitem__(content.index(1), 0x80))
    lie("counts too short", 0, lambda content: content.pop())
    lie("counts too long", 0, lambda content: content.append(0))
    lie("a map too long", 1, lambda content: content.append(0))
    lie("values too short", 2, lambda content: content.pop())
    lie("no escapes, but their bytes", 2, lambda content: content.__setitem__(slice(None), bytes(len(content))))
    lie("small values as escapes", 2, lambda content: content.__setitem__(slice(-escapes, None), bytes(escapes)))
    lie("large values as escapes", 2, lambda content: content.__setitem__(slice(-escapes, None), b"\x7f" * escapes))
    fields, streams = packed_parts(data)
    fields[4] = int(fields[4]) + 1  # type: ignore[call-overload]
    made["another number of escapes"] = (fields, streams)
    fields, streams = packed_parts(data)
    fields[4] = 2**32 - 1
    made["a huge number of escapes"] = (fields, streams)
    fields, streams = packed_parts(data)
    made["bytes after a stream"] = (fields, [streams[0] + b"\0", *streams[1:]])
    return made


@pytest.mark.parametrize("name", lies())
def test_contents_that_lie_are_refused(name: str) -> None:
    with pytest.raises(EncryptedClipError):
        unpack(rebuilt(*lies()[name]), GEOMETRY, clips=1)


def changed_streams(zeros: bytes, values: bytes, escapes: int = 0) -> bytes:
    """A clip of four coefficients, two in each of two columns, in rows 0, 1 and 2; with another map or other values."""
    made = np.zeros((1, WIDE.cubes, WIDE.values))
    made[0, 0, :2], made[0, 1, 0], made[0, 2, 1] = 5, 6, 7
    fields, streams = packed_parts(pack(records(made, geometry=WIDE), WIDE))
    assert inflated(streams[1]) == bytes([0b11000000, 0, 0b10100000, 0])
    assert inflated(streams[2]) == bytes([5, 6, 5, 7])
    fields[4] = escapes
    return rebuilt(fields, [streams[0], deflated(zeros), deflated(values)])


MAP, VALUES = bytes([0b11000000, 0, 0b10100000, 0]), bytes([5, 6, 5, 7])


@pytest.mark.parametrize(
    "zeros",
    [
        bytes([0b10000000, 0, 0b11100000, 0]),  # the first column has one coefficient less, the second one more
        bytes([0b11100000, 0, 0b10000000, 0]),  # the other way round; in both, the rows are right
        bytes([0b11000000, 0, 0b11000000, 0]),  # columns are right, and rows are not
        bytes([0b11000000, 0, 0b10000000, 0]),  # one coefficient less
        bytes([0b11000000, 0, 0b10100000, 1]),  # one more, beyond the rows
    ],
)
def test_every_way_in_which_a_map_differs_from_its_counts_is_refused(zeros: bytes) -> None:
    assert unpack(changed_streams(MAP, VALUES), WIDE, clips=1)[COEFFICIENTS][0, 2, 1] == 7
    with pytest.raises(EncryptedClipError, match="counts of a packed clip do not match its map"):
        unpack(changed_streams(zeros, VALUES), WIDE, clips=1)


@pytest.mark.parametrize(
    ("values", "escapes"),
    [
        (bytes([5, 6, 5, 0]), 0),
        (bytes([5, 6, 5, 0x80]), 0),
        (bytes([5, 6, 5, 7, 0x2C, 1]), 1),
        (bytes([5, 6, 5, 0x80, 127, 0]), 1),
        (bytes([5, 6, 5, 0x80, 1, 8]), 1),
        (bytes([5, 6, 5, 0x80, 0xFF, 0xF7]), 1),
    ],
    ids=["zero", "no escape", "escape of none", "small escape", "large escape", "large negative escape"],
)
def test_every_way_in_which_values_are_invalid_is_refused(values: bytes, escapes: int) -> None:
    valid = unpack(changed_streams(MAP, bytes([5, 6, 5, 0x80, 0, 8]), 1), WIDE, clips=1)
    assert valid[COEFFICIENTS][0, 2, 1] == 2048
    with pytest.raises(EncryptedClipError, match="values of a packed clip are not those of its map"):
        unpack(changed_streams(MAP, values, escapes), WIDE, clips=1)


def test_lying_lengths_are_refused() -> None:
    data = pack(sparse(3, 0.2, 300), GEOMETRY)
    for field in (1, 5, 6, 7):
        for value in (0, 1, 2**31, 2**32 - 1):
            fields = list(HEADER.unpack_from(data))
            fields[field] = value
            with pytest.raises(EncryptedClipError):
                unpack(with_checksum(HEADER.pack(*fields) + data[HEADER.size :]), GEOMETRY, clips=1)


def test_a_bomb_is_never_inflated() -> None:
    fields, streams = packed_parts(pack(sparse(3, 0.2, 300), GEOMETRY))
    bomb = deflated(bytes(2**26))
    for place in range(3):
        swapped = [bomb if i == place else stream for i, stream in enumerate(streams)]
        tracemalloc.start()
        with pytest.raises(EncryptedClipError):
            unpack(rebuilt(list(fields), swapped), GEOMETRY, clips=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20


def test_memory_is_a_small_multiple_of_a_clip() -> None:
    geometry = ClipGeometry.parse("8x96x96x3/2x16x16")
    data = pack(random_records(geometry, 1), geometry)
    tracemalloc.start()
    unpack(data, geometry, clips=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * geometry.cubes * geometry.values
