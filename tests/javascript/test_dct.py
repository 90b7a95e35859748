"""Clips of ``lcve-dct-1`` that Python and ``clients/js/`` exchange, and what both refuse."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lcve_deploy import (
    Binding,
    Client,
    ClientSettings,
    ClipFile,
    ClipGeometry,
    EncryptedClip,
    Layout,
    PlainClip,
    Preprocess,
    SecurityKey,
    Views,
    open_session,
)
from lcve_deploy.cipher.coefficients import to_frequencies
from lcve_deploy.clipfile import dump_clip, read_clip_file
from lcve_deploy.clips import COEFFICIENTS, STEP, Scheme, coefficient_record
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.packing import MAX_STEP, max_packed, min_step, pack
from tests.conftest import SALT, SECRET
from tests.javascript.test_exchange import client_json, geometries, python_file
from tests.javascript.test_refusals import clip_file, javascript_accepts, python_accepts
from tests.support.node import JavaScriptClient, JavaScriptError
from tests.support.servers import Server, serving

KEY: Final = SecurityKey(SECRET)
SMALL: Final = ClipGeometry.parse("2x4x6x3/1x2x2")
NEAR: Final = 1e-3
"""Distance to where another integer begins, below which float32 may round to it."""

shared_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


def client_of(geometry: ClipGeometry) -> Client:
    binding = Binding(scheme=Scheme.DCT, key_id=KEY.key_id, salt=SALT.hex(), geometry=geometry, layout=Layout.CUBES)
    preprocess = Preprocess(frames=geometry.frames, crop=(geometry.height, geometry.width))
    settings = ClientSettings(
        binding=binding,
        classes=("a", "b"),
        problem_type=ProblemType.SINGLE_LABEL,
        labels="hidden",
        preprocess=preprocess,
    )
    return Client.of(settings, KEY)


def side_of(client: Client) -> dict[str, bytes | str]:
    return {"key": KEY.to_bytes(), "settings": client_json(client)}


def read(data: bytes, folder: Path) -> ClipFile:
    (folder / "read.lcve").write_bytes(data)
    return read_clip_file(folder / "read.lcve")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dct")


def from_integer(clip: npt.NDArray[np.uint8], client: Client, step: float) -> npt.NDArray[np.float64]:
    """How far each coefficient of a clip is from where its integer changes, in the places of the encrypted clip."""
    orders, geometry = client.orders, client.settings.binding.geometry
    cubes = geometry.to_cubes(clip, np)[orders.cube_order].astype(np.float64) - 128
    exact = np.abs(to_frequencies(cubes, geometry)[:, orders.pixel_order]) / np.float32(step) + 0.4
    distance: npt.NDArray[np.float64] = np.abs(exact - np.round(exact))
    return distance


def steps(geometry: ClipGeometry) -> st.SearchStrategy[float]:
    """Steps that float32 has exactly."""
    return st.floats(min_step(geometry) + NEAR, MAX_STEP - NEAR).map(lambda step: float(np.float32(step)))


@st.composite
def film(draw: st.DrawFn) -> tuple[ClipGeometry, npt.NDArray[np.uint8], float]:
    """Clips that are partly smooth, so that some coefficients are zero and some are large, and a step."""
    odd = st.sampled_from(
        ["1x28x14x3/1x14x14", "2x14x14x1/1x14x14", "2x9x15x3/2x3x5", "3x7x14x1/3x7x7", "2x2x2x1/1x1x1"]
    )
    geometry = draw(st.one_of(geometries(), odd.map(ClipGeometry.parse)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 2)), *geometry.clip_shape)
    spread = draw(st.sampled_from([0, 3, 40, 255]))
    clips = np.clip(random.integers(0, 256) + random.integers(-spread, spread + 1, shape), 0, 255).astype(np.uint8)
    return geometry, clips, draw(steps(geometry))


@shared_fixture
@given(film())
def test_both_encrypt_to_the_same_coefficients_and_decrypt_to_the_same_clip(
    javascript: JavaScriptClient, folder: Path, made: tuple[ClipGeometry, npt.NDArray[np.uint8], float]
) -> None:
    geometry, clips, step = made
    client, views = client_of(geometry), Views(temporal=len(made[1]))
    side = side_of(client)
    file = javascript.call_for_bytes("encrypt", clips=clips.tobytes(), views=str(views), step=step, **side)
    content, expected = read(file, folder), client.encrypt(PlainClip(values=clips), step=step)
    assert (content.views, content.clip.binding) == (views, expected.binding)
    assert set(content.clip.values[STEP]) == {np.float32(step)}
    for clip, ours, theirs in zip(clips, expected.values, content.clip.values, strict=True):
        differing = ours[COEFFICIENTS] != theirs[COEFFICIENTS]
        assert (from_integer(clip, client, step)[differing] < NEAR).all()
    plain = client.decrypt(content.clip).values
    received = np.frombuffer(javascript.call_for_bytes("decrypt", file=file, **side), "<f4").reshape(plain.shape)
    np.testing.assert_allclose(received, plain, atol=1e-3)


@st.composite
def records(draw: st.DrawFn) -> tuple[ClipGeometry, npt.NDArray[np.void]]:
    """Coefficients that no clip may have, from none to all that are not zero."""
    geometry = draw(geometries())
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    clips = np.zeros(draw(st.integers(1, 3)), coefficient_record(geometry))
    clips[STEP] = draw(steps(geometry))
    shape = clips[COEFFICIENTS].shape
    values = random.integers(-draw(st.sampled_from([1, 127, 128, 2048])), 2049, shape)
    clips[COEFFICIENTS] = np.where(random.random(shape) < draw(st.sampled_from([0, 0.05, 0.6, 1])), values, 0)
    return geometry, clips


@shared_fixture
@given(records(), st.sampled_from([1, 64, 1000]))
def test_each_unpacks_what_the_other_packs_bit_for_bit(
    javascript: JavaScriptClient, folder: Path, made: tuple[ClipGeometry, npt.NDArray[np.void]], pad: int
) -> None:
    geometry, clips = made
    binding = client_of(geometry).settings.binding
    content = ClipFile(clip=EncryptedClip(values=clips, binding=binding), views=Views(temporal=len(clips)))
    file = io.BytesIO()
    dump_clip(content, file, pad=pad)
    again = javascript.call_for_bytes("rewrite", file=file.getvalue(), pad=pad)
    assert read(again, folder).clip.values.tobytes() == clips.tobytes()
    assert len(again) % pad == len(file.getvalue()) % pad


def test_noise_is_packed_within_what_a_server_accepts(javascript: JavaScriptClient) -> None:
    geometry = ClipGeometry.parse("8x64x64x3/2x16x16")
    clip = np.random.default_rng(0).integers(0, 256, geometry.clip_shape, dtype=np.uint8)
    side = side_of(client_of(geometry))
    file = javascript.call_for_bytes(
        "encrypt", clips=clip.tobytes(), views="1x1", step=min_step(geometry) + 1e-6, **side
    )
    assert len(file) < max_packed(geometry)


# Refusals


def packed_clip() -> bytes:
    """A small packed clip with two large values."""
    clips = np.zeros(1, coefficient_record(SMALL))
    clips[STEP] = 16
    random = np.random.default_rng(1)
    shape = clips[COEFFICIENTS].shape
    clips[COEFFICIENTS] = np.where(random.random(shape) < 0.4, random.integers(-9, 10, shape), 0)
    clips[COEFFICIENTS][0, 2, 3], clips[COEFFICIENTS][0, 7, 1] = 128, -2048
    return pack(clips, SMALL)


def file_of(packed: bytes, views: str = "1x1") -> bytes:
    """The clip file of packed clips, right or wrong."""
    binding = client_of(SMALL).settings.binding
    fields = {name: str(getattr(binding, name)) for name in ("scheme", "key_id", "salt", "geometry", "layout")}
    header: dict[str, Any] = {
        "__metadata__": {**fields, "views": views},
        "clip": {"dtype": "U8", "shape": [len(packed)], "data_offsets": [0, len(packed)]},
    }
    return clip_file(header, packed)


def agree(javascript: JavaScriptClient, folder: Path, packed: bytes, views: str = "1x1") -> bool:
    file = file_of(packed, views)
    expected = python_accepts(read_clip_file, folder / "a.lcve", file)
    assert javascript_accepts(javascript, "clip", file=file) is expected
    return expected


def signed(packed: bytes) -> bytes:
    """The same with a checksum and a length that are right."""
    return b"LDCT" + struct.pack("<II", len(packed), zlib.crc32(packed[12:])) + packed[12:]


def test_every_flipped_byte_is_refused_or_accepted_by_both(javascript: JavaScriptClient, folder: Path) -> None:
    """With a right checksum, so that what is behind it is checked; some flips give another clip that is right."""
    packed = packed_clip()
    assert agree(javascript, folder, packed)
    outcomes = []
    for place in range(12, len(packed)):
        for mask in (1, 128):
            changed = bytearray(packed)
            changed[place] ^= mask
            outcomes.append(agree(javascript, folder, signed(bytes(changed))))
            assert not python_accepts(read_clip_file, folder / "a.lcve", file_of(bytes(changed)))
    assert outcomes.count(True) < 0.3 * len(outcomes)
    for size in range(0, len(packed), 7):
        assert not agree(javascript, folder, packed[:size])
        assert not agree(javascript, folder, signed(packed[:size].ljust(12, b"\0")))


def deflated(content: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(content) + stream.flush()


def streams_of(packed: bytes) -> tuple[float, int, list[bytes]]:
    """Step, number of large values, and the inflated streams."""
    _, _, _, step, escapes, *sizes = struct.unpack_from("<4sIIfIIII", packed)
    first, contents = 32, []
    for size in sizes:
        contents.append(zlib.decompress(packed[first : first + size], wbits=-15))
        first += size
    return step, escapes, contents


def joined(step: float, escapes: int, streams: list[bytes]) -> bytes:
    return signed(bytes(12) + struct.pack("<fIIII", step, escapes, *map(len, streams)) + b"".join(streams))


def replaced(content: bytes, place: int, value: int) -> bytes:
    return content[:place] + bytes([value & 255]) + content[place + 1 :]


def lies() -> dict[str, bytes]:
    """Packed clips whose checksum is right, and something else is not."""
    step, escapes, contents = streams_of(packed_clip())
    counts, zeros, values = contents
    good = [deflated(content) for content in contents]
    large = values.index(128)
    column = next(i for i in range(1, 12) if counts[i])
    moved = replaced(replaced(counts, 0, counts[0] + 1), column, counts[column] - 1)
    others = {
        "a count moved to another column": [moved, zeros, values],
        "a count too high": [replaced(counts, 0, counts[0] + 1), zeros, values],
        "a count of millions": [replaced(counts, 48, 255), zeros, values],
        "a bit less in the map": [counts, replaced(zeros, 0, zeros[0] & zeros[0] - 1), values],
        "an unused bit": [counts, replaced(zeros, 1, zeros[1] | 1), values],
        "a value zero": [counts, zeros, replaced(values, large + 1, 0)],
        "a large value more": [counts, zeros, replaced(values, large + 1, 128)],
        "a large value less": [counts, zeros, replaced(values, large, 5)],
        "a large value that is small": [counts, zeros, replaced(values, len(values) - 1, 0)],
        "a large value beyond 2048": [counts, zeros, replaced(values, len(values) - 1, 0x70)],
        "longer counts": [counts + b"\0", zeros, values],
        "a shorter map": [counts, zeros[:-1], values],
        "longer values": [counts, zeros, values + b"\1"],
        "a bomb": [counts, zeros, bytes(2**22)],
    }
    for_streams = {name: [deflated(part) for part in parts] for name, parts in others.items()}
    for index, name in enumerate(("counts", "map", "values")):
        for what, stream in (("more after", good[index] + b"\0"), ("nothing of", b""), ("a cut of", good[index][:-1])):
            for_streams[f"{what} the {name}"] = [*good[:index], stream, *good[index + 1 :]]
    steps = {f"the step {wrong}": joined(wrong, escapes, good) for wrong in (0.5, 0.0, -16.0, 257.0, np.inf, np.nan)}
    escaped = {f"{wrong} large values": joined(step, wrong, good) for wrong in (0, escapes + 1, 2**32 - 1)}
    right = joined(step, escapes, good)
    beyond = right[:20] + struct.pack("<III", 2**32 - 1, 2**32 - 1, 2**32 - 1) + right[32:]
    return {
        **{name: joined(step, escapes, streams) for name, streams in for_streams.items()},
        **steps,
        **escaped,
        "lengths beyond the clip": signed(beyond),
        "padding that is not zero": signed(right + b"\0\1"),
        "bytes after the clip": right + b"\0",
        "another magic": b"LDCU" + right[4:],
        "two clips": right * 2,
    }


LIES: Final = lies()


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused(javascript: JavaScriptClient, folder: Path, name: str) -> None:
    assert not agree(javascript, folder, LIES[name])


def test_what_the_lies_are_made_from_is_right(javascript: JavaScriptClient, folder: Path) -> None:
    step, escapes, contents = streams_of(packed_clip())
    right = joined(step, escapes, [deflated(content) for content in contents])
    assert agree(javascript, folder, right)
    assert agree(javascript, folder, signed(right + bytes(100)))
    assert agree(javascript, folder, right * 2, "2x1")
    assert not agree(javascript, folder, right, "9999x9999")


def test_the_clip_of_another_scheme_is_refused(javascript: JavaScriptClient) -> None:
    client = client_of(SMALL)
    binding = dataclasses.replace(client.settings.binding, scheme=Scheme.LCVE.value)
    other = Client.of(dataclasses.replace(client.settings, binding=binding), KEY)
    clips = np.zeros((1, *SMALL.clip_shape), np.uint8)
    for mine, theirs in ((client, other), (other, client)):
        with pytest.raises(JavaScriptError, match="scheme") as refused:
            javascript.call("decrypt", file=python_file(theirs, clips, Views()), **side_of(mine))
        assert refused.value.kind == "MismatchError"
    with pytest.raises(JavaScriptError, match="no quality"):
        javascript.call("encrypt", clips=clips.tobytes(), views="1x1", step=16, **side_of(other))
    with pytest.raises(JavaScriptError, match="a step from 1 to 256"):
        javascript.call("encrypt", clips=clips.tobytes(), views="1x1", step=0.5, **side_of(client))


# Servers


@pytest.fixture(scope="module")
def server(thin: Path) -> Iterator[Server]:
    with serving(thin / "server", "--max-batch", 2) as started:
        yield started


def test_a_server_answers_for_more_clips_than_a_batch(
    javascript: JavaScriptClient, server: Server, thin: Path, key_file: Path, exported: Path
) -> None:
    client = Client.open(thin / "client", SecurityKey.read(key_file))
    clips = np.random.default_rng(3).integers(
        90, 140, (3, *client.settings.binding.geometry.clip_shape), dtype=np.uint8
    )
    views = Views(temporal=3)
    call = {"settings": client_json(client), "key": key_file.read_bytes()}
    file = javascript.call_for_bytes("encrypt", clips=clips.tobytes(), views=str(views), step=6, **call)
    received = javascript.call("run", address=server.address("http"), settings=client_json(client), file=file)
    expected = open_session(thin / "server").run(client.encrypt(PlainClip(values=clips), step=6))
    np.testing.assert_allclose(np.reshape(received, expected.shape), expected, rtol=1e-4, atol=1e-4)
    other = Client.open(exported / "client", SecurityKey.read(key_file))
    raw = python_file(other, np.zeros((1, *other.settings.binding.geometry.clip_shape), np.uint8), Views())
    with pytest.raises(JavaScriptError, match="scheme") as refused:
        javascript.call("run", address=server.address("http"), settings=client_json(other), file=raw)
    assert refused.value.kind == "MismatchError"
