"""Everything that reads files from outside: a value or one clear error, whatever the file says.

``make fuzz`` looks for more, for as long as it is let; see docs/evidence/fuzzing.md. What it found stands here.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import GEOMETRY, PREPROCESS, SECRET, TARGETS, quiet, run, seeds
from lcve_deploy import ClipGeometry, SecurityKey
from lcve_deploy.artifact import read_client, read_engine, read_keyed, read_manifest, read_probe
from lcve_deploy.artifact.delta import is_delta, read_delta
from lcve_deploy.artifact.digests import path_problem
from lcve_deploy.client import Client
from lcve_deploy.clipfile import read_clip_file
from lcve_deploy.errors import ArtifactError, CheckpointError, EncryptedClipError, LcveError, SessionError, VideoError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.pickles import check_torch_file
from lcve_deploy.exporters.checkpoints.reading import read_pickled
from lcve_deploy.files import reading as inputs
from lcve_deploy.geometry import MAX_CLIP_VALUES, MAX_CUBES, MAX_SIDE
from lcve_deploy.model.preprocess import MAX_SHORT_SIDE, Preprocess
from lcve_deploy.model.transformer import Normalisation, sinusoid_table
from lcve_deploy.video import read_clips
from lcve_deploy.video.decode import MAX_FRAME_PIXELS

from .conftest import run_error

ROOT = Path(__file__).parents[1]
PROCESSOR_SECONDS, SECONDS = 60, 600


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"no answer within {PROCESSOR_SECONDS} s of work, or {SECONDS} s of waiting")


@pytest.fixture(autouse=True)
def within_bounded_time() -> Iterator[None]:
    """A reader that works or waits without end fails its test rather than stop the suite.

    Its own work is counted, which is the same on a busy machine.
    """
    alarms = {signal.SIGPROF: (signal.ITIMER_PROF, PROCESSOR_SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, SECONDS)}
    before = {number: signal.signal(number, _too_long) for number in alarms}
    for timer, seconds in alarms.values():
        signal.setitimer(timer, seconds)
    yield
    for timer, _ in alarms.values():
        signal.setitimer(timer, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


def seed(target: str, name: str = "") -> bytes:
    return next(path for path in seeds(target) if path.stem == f"seed-{name or target}").read_bytes()


def read(target: str, data: bytes) -> object:
    with tempfile.TemporaryDirectory() as place:
        return run(target, Path(place), data)


def refusal(target: str, data: bytes) -> str:
    """What a reader says of an input that it refuses."""
    answer = read(target, data)
    assert isinstance(answer, LcveError), answer
    assert "\n" not in str(answer)
    return str(answer)


# All readers


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.integers(0, 99), steps=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4))
def test_a_changed_file_is_read_or_refused(name: str, at: int, steps: list[int]) -> None:
    kept = [path for path in seeds(name) if path.name.startswith("seed-")]
    data = kept[at % len(kept)].read_bytes()
    for step in steps:
        data = TARGETS[name].mutate(data, random.Random(step))  # noqa: S311
    read(name, data)


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None, max_examples=20)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    read(name, data)


@pytest.mark.parametrize("path", [path for name in TARGETS for path in seeds(name)], ids=lambda path: path.name)
def test_kept_inputs_are_read_or_refused(path: Path) -> None:
    answer = read(path.parent.name, path.read_bytes())
    assert path.name.startswith("found-") or not isinstance(answer, LcveError), answer


# Pipes, devices and folders


def _folder_with(place: Path, name: str) -> Path:
    os.mkfifo(place / name)
    return place


def _hugging_face(place: Path, name: str) -> Path:
    if name != "config.json":
        (place / "config.json").write_bytes(seed("folder", "config")[1:])
    return _folder_with(place, name)


WAITING: dict[str, Callable[[Path], object]] = {
    "key": lambda place: SecurityKey.read(_folder_with(place, "x") / "x"),
    "clip": lambda place: read_clip_file(_folder_with(place, "x") / "x"),
    "manifest": lambda place: read_manifest(_folder_with(place, "manifest.json")),
    "client": lambda place: read_client(_folder_with(place, "client.json")),
    "keyed": lambda place: read_keyed(_folder_with(place, "keyed.safetensors")),
    "probe": lambda place: read_probe(_folder_with(place, "probe.safetensors"), None),  # type: ignore[arg-type]
    "delta": lambda place: read_delta(_folder_with(place, "x") / "x"),
    "engine": lambda place: read_engine(_folder_with(place, "engines"), "fast"),
    "checkpoint": lambda place: load_checkpoint(_folder_with(place, "x.pth") / "x.pth"),
    "configuration": lambda place: load_checkpoint(_hugging_face(place, "config.json")),
    "weights": lambda place: load_checkpoint(_hugging_face(place, "model.safetensors")),
    "video": lambda place: read_clips(_folder_with(place, "x.mp4") / "x.mp4", PREPROCESS, GEOMETRY),
    "array": lambda place: read_clips(_folder_with(place, "x.npy") / "x.npy", PREPROCESS, GEOMETRY),
    "image": lambda place: read_clips(_folder_with(place, "x.png"), PREPROCESS, GEOMETRY),
    "command": lambda place: pytest.fail(run_error("inspect", _folder_with(place, "x") / "x")),
}


@pytest.mark.parametrize("name", [name for name in WAITING if name != "command"])
def test_a_pipe_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(LcveError):
        WAITING[name](tmp_path)


def test_commands_refuse_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert "a pipe" in run_error("inspect", tmp_path / "x")
    assert "a device" in run_error("inspect", "/dev/zero")


def test_class_names_are_read_like_any_file(tmp_path: Path, key_file: Path) -> None:
    os.mkfifo(tmp_path / "names.txt")
    (tmp_path / "names.json").write_text("[" * 5000 + "]" * 5000)
    for name in ("names.txt", "names.json"):
        arguments = ("export", "--key", key_file, "--ckpt", tmp_path, "-o", tmp_path / "out")
        assert "cannot be read" in run_error(*arguments, "--labels", tmp_path / name)


def test_a_folder_in_place_of_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match="a folder"):
        load_checkpoint(tmp_path)
    with pytest.raises(EncryptedClipError, match="a folder"):
        read_clip_file(tmp_path)


def test_is_delta_says_no_to_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert not is_delta(tmp_path / "x")


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "key.bin").write_bytes(SecurityKey(SECRET).to_bytes())
    (tmp_path / "key.bin").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "key.bin")
    assert SecurityKey.read(tmp_path / "link") == SecurityKey(SECRET)


# JSON


def manifest(**changes: object) -> bytes:
    return json.dumps({**json.loads(seed("manifest")), **changes}).encode()


@pytest.mark.parametrize("depth", [65, 500, 980, 100_000])
def test_nested_json_is_refused(depth: int) -> None:
    """Deep enough to be read and too deep to be shown was a RecursionError."""
    deep = b"[" * depth + b"]" * depth
    assert "nested" in refusal("manifest", b'{"files": ' + deep + b"}")
    assert "nested" in refusal("folder", b'c{"model_type": ' + deep + b"}")


@pytest.mark.parametrize("digits", ["9" * 20, "1" * 400, "9" * 4299, "1" * 100_000])
def test_a_giant_number_is_no_whole_number(digits: str) -> None:
    assert "opset" in refusal("manifest", manifest(opset="#").replace(b'"#"', digits.encode()))
    width = seed("folder", "config").replace(b'"hidden_size": 6', b'"hidden_size": ' + digits.encode())
    assert "hidden_size" in refusal("folder", width)
    scale = seed("folder", "processor").replace(
        b'"rescale_factor": 0.00392156862745098', b'"rescale_factor": ' + digits.encode()
    )
    assert isinstance(read("folder", scale), CheckpointError) or len(digits) < 300


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1e-999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    data = json.loads(seed("manifest"))
    data["parity"]["tolerance"] = "#"
    assert "parity" in refusal("manifest", json.dumps(data).replace('"#"', number).encode())


def test_of_equal_names_the_last_counts() -> None:
    assert "format" in refusal("manifest", seed("manifest").rstrip()[:-1] + b', "format": 2}')


@pytest.mark.parametrize("target", ["manifest", "client", "engine"])
def test_half_a_surrogate_pair_is_not_json(target: str) -> None:
    """It could be read, and then not be printed or be made a path."""
    document = {**json.loads(seed(target)), "note": "\ud800"}
    assert "not JSON" in refusal(target, json.dumps(document).encode())


def test_json_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ArtifactError, match=f"at most {inputs.MAX_JSON_BYTES}"):
        read_manifest(tmp_path)


def test_many_problems_are_counted() -> None:
    names: dict[str, dict[str, Any]] = {f"{i}": {} for i in range(10_000)}
    message = refusal("manifest", manifest(files=names))
    assert "and 19" in message
    assert len(message) < 10_000


@pytest.mark.parametrize("path", ["a\0b", "a\nb", "\x1b[2J", "x" * 256, "x/" * 600, "\ud800"])
def test_paths_that_no_file_can_have_are_refused(path: str) -> None:
    """A zero byte was a ValueError where the file was looked for, a long name an OSError."""
    assert path_problem(path.replace("\ud800", "\u2028"))


def test_an_error_cannot_move_the_cursor(tmp_path: Path) -> None:
    data = manifest(files={"\x1b[2J\x1b[1;1Hall is well": {}})
    (tmp_path / "manifest.json").write_bytes(data)
    assert "\x1b" not in run_error("inspect", tmp_path)


# Geometry


@pytest.mark.parametrize(
    "text",
    [
        f"{MAX_SIDE * 2}x1x1x3/1x1x1",
        "1024x1024x1024x3/1x1x1",
        "2x1024x1024x3/2x1024x1024",
        "128x1024x1024x3/2x16x16",
        "2048x512x512x1/1x64x64",
        "64x2048x1024x2/64x32x32",
        "16385x1x1x1/1x1x1",
        "1x1x1x16385/1x1x1",
        "8x128x129x1/1x1x1",
        "1x256x257x1/1x256x257",
        "999999999x999999999x999999999x999999999/1x1x1",
        "9999999999x1x1x3/1x1x1",
        "9" * 5000 + "x1x1x3/1x1x1",
    ],
)
def test_geometries_beyond_any_model_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"at most|expected a geometry"):
        ClipGeometry.parse(text)
    client = {**json.loads(seed("client")), "geometry": text}
    assert "geometry" in refusal("client", json.dumps(client).encode())


@pytest.mark.parametrize(
    "text",
    ["16x224x224x3/2x14x14", "64x224x224x3/2x14x14", "64x518x518x3/2x14x14", "32x1024x1024x3/2x16x16"],
)
def test_geometries_of_real_models_are_read(text: str) -> None:
    geometry = ClipGeometry.parse(text)
    assert geometry.cubes <= MAX_CUBES
    assert geometry.cubes * geometry.values <= MAX_CLIP_VALUES


@pytest.mark.parametrize(
    ("text", "cubes", "values"),
    [
        ("1024x512x512x1/1x64x64", 2**16, 2**12),  # N·L as large as it may be, N and L not
        ("2x256x256x1/1x1x1", 2**17, 1),
        ("1x256x256x1/1x256x256", 1, 2**16),
        ("16384x1x1x1/1x1x1", 2**14, 1),
    ],
)
def test_geometries_at_the_limits_are_read(text: str, cubes: int, values: int) -> None:
    geometry = ClipGeometry.parse(text)
    assert (geometry.cubes, geometry.values) == (cubes, values)


@pytest.mark.parametrize("target", ["clip", "client", "manifest"])
def test_no_reader_takes_more_values_than_a_clip_may_have(target: str) -> None:
    """N and L are each within their own limits."""
    text = "2048x512x512x1/1x64x64"
    if target == "clip":
        data = seed("clip", "cubes")
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header["__metadata__"]["geometry"] = text
        document = tensor_file(header, data[8 + length :])
    else:
        document = json.dumps({**json.loads(seed(target)), "geometry": text}).encode()
    assert "values in a cube and 268435456 values" in refusal(target, document)


def test_a_short_side_has_a_limit() -> None:
    with pytest.raises(ValueError, match="at most"):
        Preprocess(frames=2, short_side=MAX_SHORT_SIDE + 1, crop=(4, 4))


# safetensors


def tensor_file(header: object, values: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + values


def one_tensor(dtype: str, shape: list[Any], size: int) -> bytes:
    names = ("clip", "logits", "cube_embedding.weight")
    entries = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name in names[1:]}
    return tensor_file({names[0]: {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}, **entries}, bytes(size))


@pytest.mark.parametrize("target", ["clip", "probe", "keyed", "delta"])
@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64", "X"])
def test_dtypes_that_numpy_lacks_are_refused(target: str, dtype: str) -> None:
    """They were an AttributeError or a TypeError."""
    size = {"BF16": 2, "C64": 8}.get(dtype, 1)
    refusal(target, tensor_file({"clip": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}, bytes(size)))


def metadata(dtype: str) -> bytes:
    """A rotation with a tensor of a dtype that NumPy lacks."""
    data = seed("delta")
    length = int.from_bytes(data[:8], "little")
    said = json.loads(data[8 : 8 + length])["__metadata__"]
    return tensor_file({"__metadata__": said, "x": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}, b"a")


def test_a_rotation_with_a_dtype_that_numpy_lacks_is_refused() -> None:
    refusal("delta", metadata("F8_E4M3"))


@pytest.mark.parametrize("target", ["clip", "probe", "keyed", "delta"])
@pytest.mark.parametrize(
    "shape", [[0, 2**62], [0, 2**63], [0, 2**64 - 1], [2**62, 0, 2**62], [1] * 65, [-1], [1.0], ["1"]]
)
def test_shapes_that_no_array_can_have_are_refused(target: str, shape: list[Any]) -> None:
    """Beside a zero any size agrees with no bytes; NumPy then raised a ValueError."""
    refusal(target, tensor_file({"clip": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}))
    refusal("folder", b"w" + tensor_file({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}))


def test_a_tensor_written_as_a_list_is_refused() -> None:
    """The library takes a list for an object; our own reader of the header did not."""
    for target in ("clip", "probe", "keyed", "delta"):
        refusal(target, tensor_file({"clip": ["U8", [1], [0, 1]]}, b"a"))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 100 * 10**9) + b"{}",
        struct.pack("<Q", 2**64 - 1) + b"{}",
        tensor_file({"clip": {"dtype": "U8", "shape": [10**11], "data_offsets": [0, 10**11]}}, b"a"),
        tensor_file(b'{"\xff": 1}'),
        tensor_file(b"[" * 5000 + b"]" * 5000),
        tensor_file([]),
        tensor_file({"clip": 1}),
        tensor_file(
            {
                "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
            },
            b"abcdef",
        ),
    ],
    ids=["100 GB", "2^64", "claims", "not UTF-8", "nested", "list", "number", "overlap"],
)
def test_headers_that_do_not_hold_are_refused(data: bytes) -> None:
    for target in ("clip", "probe", "keyed", "delta"):
        refusal(target, data)
    refusal("folder", b"w" + data)


def test_a_header_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.lcve"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", inputs.MAX_HEADER_BYTES + 1) + b"{")
        file.truncate(2**30)
    with pytest.raises(EncryptedClipError, match="header of"):
        read_clip_file(path)


# .npy


def npy(shape: str, descr: str = "'<f4'", values: bytes = b"", version: int = 1) -> bytes:
    header = f"{{'descr':{descr},'fortran_order':False,'shape':{shape}}}\n".encode()
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header + values
    )


ARRAYS = {
    "more than memory": npy("(1,10**12)".replace("10**12", "1000000000000")),
    "no C long": npy("(1000000000000000000000000000000,)"),
    "overflow": npy("(4611686018427387904,4611686018427387904)"),
    "negative": npy("(-1,)"),
    "bool": npy("(True,)", values=b"aaaa"),
    "signs": npy("(" + "-" * 9000 + "1,)"),
    "few signs": npy("(" + "-" * 900 + "1,)"),
    "nested": npy("(" + "[" * 150 + "]" * 150 + ",)"),
    "objects": npy("(1,)", "'|O'", b"\x80\x02N."),
    "no bytes": npy("(1000,)", "'|V0'"),
    "axes": npy("(" + "1," * 65 + ")", values=b"aaaa"),
    "version": npy("(1,)", values=b"aaaa", version=9),
    "truncated": npy("(2,5)", values=bytes(39)),
    "no end": npy("(2,5)}: {("),
    "dtype of numbers": npy("(1,)", "'f4,010f4'", b"aaaa"),
    "zero byte": npy("(2,\0"),
    "archive": b"PK\x03\x04aaaa",
    "empty archive": b"PK\x05\x06" + bytes(18),
    "header": b"\x93NUMPY\x02\x00\xff\xff\xff\xffaaaa",
}


@pytest.mark.parametrize("data", ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_are_none_are_refused(data: bytes) -> None:
    """Some were MemoryError, OverflowError, TypeError or zipfile.BadZipFile."""
    refusal("array", data)
    refusal("logits", data)


@pytest.mark.parametrize(
    "values",
    [
        *(np.zeros(4, kind) for kind in ("c8", "S4", "U1", "M8[s]", "m8[s]", "V3", "?,i4")),
        *(np.zeros(shape, np.float32) for shape in ((0,), (0, 5), (2, 0))),
    ],
    ids=str,
)
def test_an_array_is_one_of_numbers_and_has_some(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(SessionError, match=r"not a numeric array|expected 1 to \d+"):
        inputs.map_array(tmp_path / "a.npy", "an array", SessionError)


def test_logits_have_a_limit(tmp_path: Path) -> None:
    (tmp_path / "client.json").write_bytes(seed("client"))
    path = tmp_path / "logits.npy"
    header = npy("(100000000,5)")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 4 * 5 * 10**8)
    with pytest.raises(SessionError, match="at most"):
        Client.open(tmp_path, SecurityKey(SECRET)).read_logits(path)


# Checkpoints


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def archive(code: bytes, *, compress: int = zipfile.ZIP_STORED, name: str = "archive/data.pkl") -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compress) as target:
        target.writestr(name, b"\x80\x02" + code + b".")
        target.writestr("archive/byteorder", "little")
        target.writestr("archive/version", "3\n")
    return memory.getvalue()


def saved(content: object, *, legacy: bool = False) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory, _use_new_zipfile_serialization=not legacy)
    return memory.getvalue()


def weights() -> dict[str, torch.Tensor]:
    return dict(torch.load(io.BytesIO(seed("checkpoint", "plain")), weights_only=True))


ONES = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
SCALAR, DTYPE = b"cnumpy.core.multiarray\nscalar\n", b"cnumpy\ndtype\n"
ASKING = {
    "bytes without end": b"c__builtin__\nbytearray\n" + number(3 * 10**9) + b"\x85R",
    "a tensor without end": b"ctorch\nFloatTensor\n" + number(10**10) + b"\x85R",
    "a storage without end": b"ctorch\nUntypedStorage\n" + number(10**10) + b"\x85R",
    "a scalar without end": SCALAR + DTYPE + text("S1500000000") + b"\x85R\x85R",
    "a dtype of objects": SCALAR + DTYPE + text("O") + b"\x85R" + text("x") + b"\x86R",
    "a quantised tensor": b"ctorch._utils\n_rebuild_qtensor\n)R",
    "a key whose hash takes for ever": b"}" + ONES + b"K\x01s",
    "a key that is too deep": b"})" + b"\x85" * 100_000 + b"K\x01s",
    "a slow codec": b"c_codecs\nencode\n" + text("x" * 100) + text("punycode") + b"\x86R",
    "an unknown codec": b"c_codecs\nencode\n" + text("x") + text("latin0") + b"\x86R",
    "a tuple whose text takes for ever": b"]" + ONES + b"a",
    "code": b"cposix\nsystem\n" + text("true") + b"\x85R",
    "our own stand-in": b"clcve_deploy.exporters.checkpoints.pickles\n_Kind\n" + text("f8") + b"\x85R",
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("code", ASKING.values(), ids=ASKING)
def test_a_pickle_that_asks_for_too_much_is_refused(code: bytes, legacy: bool) -> None:
    """A hundred bytes took gigabytes, or for ever."""
    before = b"".join(pickle.dumps(part, 2) for part in tuple[Any, ...]((0x1950A86A20F9469CFC6C, 1001, {})))
    data = before + b"\x80\x02" + code + b"." + pickle.dumps([], 2) if legacy else archive(code)
    refusal("checkpoint", data)
    refusal("folder", b"b" + data)


def test_instructions_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lcve_deploy.exporters.checkpoints.pickles.MAX_INSTRUCTIONS", 1000)
    assert "instructions" in refusal("checkpoint", archive(b"N0" * 1000 + b"N"))


def test_records_that_are_compressed_are_refused() -> None:
    """A megabyte of zip was a gigabyte of pickle."""
    assert "compressed" in refusal("checkpoint", archive(text("a" * 10**6), compress=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("name", ["archive/DATA.PKL", "other/data.pkl", "data.pkl", "archivex/data.pkl"])
def test_no_record_escapes_the_check_by_its_name(name: str) -> None:
    data = archive(ASKING["bytes without end"], name=name).replace(b"archivex", b"archive\0")
    refusal("checkpoint", data)


def test_an_archive_with_bytes_around_it_is_refused() -> None:
    """Readers of zip files differ in which archive they would find."""
    whole = seed("checkpoint", "plain")
    refusal("checkpoint", whole + b"\0")
    refusal("checkpoint", whole + archive(b"N"))
    refusal("checkpoint", b"PK" + whole)


def test_a_pickle_does_not_escape_the_check_behind_the_end_of_an_archive() -> None:
    """torch tells an archive by its first bytes, Python by its last."""
    before = b"".join(pickle.dumps(part, 2) for part in tuple[Any, ...]((0x1950A86A20F9469CFC6C, 1001, {})))
    code = before + b"\x80\x02" + ASKING["bytes without end"] + b"." + pickle.dumps([], 2)
    refusal("checkpoint", code + archive(b"N"))


def test_numbers_of_numpy_are_read_as_they_were(tmp_path: Path) -> None:
    values = [np.float64(0.5), np.float32(-2), np.int64(7), np.int32(-7), np.bool_(True), np.uint8(200), np.float16(3)]
    values.append(np.array(0.25, ">f8")[()])
    (tmp_path / "a.pth").write_bytes(saved(values))
    read_back = read_pickled(tmp_path / "a.pth")
    assert [(type(value), value) for value in read_back] == [(type(value), value) for value in values]


def test_other_values_of_numpy_are_refused() -> None:
    for value in (np.str_("x"), np.datetime64("2026-01-01"), np.complex64(1), np.void(b"x")):
        refusal("checkpoint", saved({"model": weights(), "args": value}))


TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "repeats one value": lambda t: torch.zeros(1).expand(10**9, 1000),
    "complex": lambda t: t.to(torch.complex64),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.quint8),
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "float4": lambda t: torch.zeros(5, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    "meta": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse(),
    "csr": lambda t: torch.eye(5).to_sparse_csr(),
    "nested": lambda t: torch.nested.nested_tensor([t, t]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("make", TENSORS.values(), ids=TENSORS)
def test_tensors_that_hold_no_weights_are_refused(make: Callable[[torch.Tensor], torch.Tensor], legacy: bool) -> None:
    state = weights()
    try:
        data = saved({**state, "head.bias": make(state["head.bias"])}, legacy=legacy)
    except (AttributeError, RuntimeError, NotImplementedError, pickle.PicklingError, KeyError) as error:
        pytest.skip(f"this torch cannot save it: {error}")
    refusal("checkpoint", data)


def test_a_negated_view_is_read_by_its_values() -> None:
    """NumPy cannot take one as it is; it was a RuntimeError."""
    state = weights()
    negated = torch.complex(torch.zeros(5), torch.arange(5.0)).conj().imag
    assert negated.is_neg()
    model: Any = read("checkpoint", saved({**state, "head.bias": negated}))
    np.testing.assert_array_equal(model.model.weights["head.bias"], -np.arange(5.0))


def strided(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A checkpoint whose head bias is a view of another size than its storage."""
    whole = saved({**weights(), "head.bias": torch.as_strided(torch.arange(5.0), (5,), (1,))})
    with zipfile.ZipFile(io.BytesIO(whole)) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    code = entries[name]
    at = code.rindex(b"K\x05\x85q")  # the size, and after it the stride

    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(number(value) for value in values) + b"t"

    rest = code[at + 5 :]
    assert rest.startswith(b"K\x01\x85q")
    entries[name] = code[:at] + ints(size) + b"q\xf0" + ints(stride) + b"q\xf1" + rest[5:]
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as target:
        for entry, content in entries.items():
            target.writestr(entry, content)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("size", "stride"),
    [
        ((5,), (-1,)),
        ((6,), (1,)),
        ((2**40,), (1,)),
        ((2**62, 2**62), (0, 0)),
        ((5,), (2**62,)),
        ((-5,), (1,)),
        ((), (1,)),
    ],
)
def test_views_beyond_their_storage_are_refused(size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    refusal("checkpoint", strided(size, stride))


def test_methods_that_a_pickle_overwrites_are_not_called() -> None:
    """An OrderedDict takes attributes from a pickle; a text for "items" was a TypeError."""
    state = OrderedDict(weights())
    state.__dict__.update({"items": "x", "get": "x", "keys": "x", "__iter__": "x"})
    answer = read("checkpoint", archive(b"ccollections\nOrderedDict\n)R}" + text("items") + b"K\x01s" + b"b"))
    assert isinstance(answer, CheckpointError)
    refusal("folder", b"b" + archive(b"ccollections\nOrderedDict\n)R}" + text("items") + b"K\x01s" + b"b"))


def test_block_numbers_without_end_are_unexpected() -> None:
    """int() of thousands of digits is a ValueError."""
    name = f"blocks.{'1' * 5000}.norm1.weight"
    refusal("checkpoint", saved({**weights(), name: torch.zeros(6)}))


def test_a_width_of_zero_makes_no_model() -> None:
    state = weights()
    state["patch_embed.proj.weight"] = torch.zeros(0, 3, 2, 2, 2)
    assert "widths above zero" in refusal("checkpoint", saved(state))


CONFIGURATIONS = {
    "blocks": ("num_hidden_layers", 10**9),
    "image": ("image_size", 10**6),
    "frames": ("num_frames", 10**12),
    "width": ("hidden_size", 10**12),
    "mlp": ("intermediate_size", 10**18),
    "classes": ("id2label", {}),
    "tubelet": ("tubelet_size", [1, -1, 0]),
    "heads": ("num_attention_heads", 10**18),
}


@pytest.mark.parametrize(("name", "value"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_absurd_configurations_are_refused(name: str, value: object) -> None:
    config = {**json.loads(seed("folder", "config")[1:]), name: value, "num_labels": 10**18}
    refusal("folder", b"c" + json.dumps(config).encode())


def test_a_mean_without_channels_is_refused() -> None:
    """min() of nothing was a ValueError."""
    with pytest.raises(CheckpointError):
        Normalisation(mean=(), std=())


@pytest.mark.parametrize("shard", ["x" * 300, "a\0b", "..", ".", "", "/dev/zero", "config.json"])
def test_shards_that_are_no_weights_are_refused(shard: str) -> None:
    refusal("folder", b"i" + json.dumps({"weight_map": {"x": shard}}).encode())


def test_the_sinusoid_table_is_the_same_in_blocks() -> None:
    column, positions = np.arange(7), np.arange(2500)
    angle = positions[:, None] / np.power(10000.0, 2 * (column // 2) / 7)
    whole = np.where(column % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)
    np.testing.assert_array_equal(sinusoid_table(2500, 7), whole)


def test_every_real_checkpoint_passes_the_check() -> None:
    for path in (ROOT / "tests/data/oracle").glob("*.pth"):
        check_torch_file(path)


# Videos and images


def png(width: int, height: int) -> bytes:
    """A black picture, a few hundred bytes for every million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    data = seed("video", "gif")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def test_frames_have_a_limit() -> None:
    assert "pixels" in refusal("video", gif(16000, 16000))
    refusal("video", gif(65535, 65535))
    refusal("video", png(16000, 4400))


def test_frames_of_the_largest_video_are_read() -> None:
    """8K, 7680 x 4320."""
    assert MAX_FRAME_PIXELS >= 2 * 7680 * 4320
    assert not isinstance(read("video", png(7680, 4320)), LcveError)


@pytest.mark.parametrize("size", [(1, 30000), (30000, 1)])
def test_a_narrow_frame_does_not_grow_without_end(tmp_path: Path, size: tuple[int, int]) -> None:
    """Its shorter side is enlarged, and the longer one with it."""
    (tmp_path / "1.png").write_bytes(png(*size))
    geometry = ClipGeometry.parse("16x512x512x3/2x16x16")
    preprocess = Preprocess(frames=16, short_side=512, crop=(512, 512))
    with pytest.raises(VideoError, match="would take more than"):
        read_clips(tmp_path, preprocess, geometry)


def test_a_text_that_is_not_unicode_does_no_harm() -> None:
    """Names in a file are not needed; one that was not UTF-8 was a UnicodeDecodeError."""
    data = seed("video", "mp4").replace(b"VideoHandler", b"Video\xa8\xff\xfender")
    assert data != seed("video", "mp4")
    assert not isinstance(read("video", data), LcveError)


def test_a_codec_without_a_decoder_is_refused() -> None:
    refusal("video", seed("video", "matroska").replace(b"V_MPEG4/ISO/ASP", b"V_UNCOMPRESSED\0"))


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(seed("video", "mp4"))
    for name, content in {
        "a.m3u8": "#EXTM3U\n#EXTINF:1,\nreal.mp4\n",
        "a.ffconcat": "ffconcat version 1.0\nfile real.mp4\n",
        "a.mp4": "#EXTM3U\n#EXTINF:1,\nreal.mp4\n",
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(VideoError):
            read_clips(tmp_path / name, PREPROCESS, GEOMETRY)


def test_a_folder_with_very_many_names_is_read(tmp_path: Path) -> None:
    for i in range(20_000):
        (tmp_path / f"{i}.txt").touch()
    with pytest.raises(VideoError, match="no images"):
        read_clips(tmp_path, PREPROCESS, GEOMETRY)
    (tmp_path / ("9" * 200 + ".png")).write_bytes(png(8, 8))
    with quiet():
        assert read_clips(tmp_path, PREPROCESS, GEOMETRY).clip.values.shape == (1, *GEOMETRY.clip_shape)


# Memory

MEASURED = """
import resource, sys
from pathlib import Path
from fuzz.targets import run
import torch, av, lcve_deploy.exporters.checkpoints
folder = Path(sys.argv[1])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for path in sorted(folder.iterdir()):
    place = folder.parent / f"{path.name}.read"
    place.mkdir()
    answer = run(path.name.split("-")[1], place, path.read_bytes())
    print(path.name, type(answer).__name__, peak() - before, flush=True)
"""


def test_what_is_refused_takes_no_memory(tmp_path: Path) -> None:
    """Megabytes on top of those of the libraries; each of these once took gigabytes, or claims as much."""
    lists = b'{"files": [' + b"[]," * (inputs.MAX_JSON_BYTES // 3 - 10) + b"0]}"
    bomb = archive(text("a" * (64 * 2**20)), compress=zipfile.ZIP_DEFLATED)
    expanded = saved({**weights(), "head.bias": torch.zeros(1).expand(4 * 10**8)})
    cases = {
        "1-checkpoint-bytes": (archive(ASKING["bytes without end"]), 100),
        "1-checkpoint-scalar": (archive(ASKING["a scalar without end"]), 100),
        "1-checkpoint-deflated": (bomb, 100),
        "1-checkpoint-expanded": (expanded, 100),
        "2-video-png": (png(16000, 5000), 300),
        "2-video-gif": (gif(16000, 16000), 300),
        "3-logits-claim": (ARRAYS["more than memory"], 300),
        "3-clip-claim": (struct.pack("<Q", 10**11) + b"{}", 300),
        "4-manifest-lists": (lists, 700),
    }
    (tmp_path / "inputs").mkdir()
    for name, (data, _) in cases.items():
        (tmp_path / "inputs" / name).write_bytes(data)
    del bomb, lists
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "inputs")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert len(lines) == len(cases)
    for name, answer, megabytes in lines:
        assert answer.endswith("Error"), name
        assert int(megabytes) <= cases[name][1], (name, megabytes)
