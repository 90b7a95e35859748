"""What the tests in this folder share."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import torch

from fuzz.targets import run, seeds
from lcve_deploy.errors import LcveError

ROOT = Path(__file__).parents[2]
PROCESSOR_SECONDS, SECONDS = 60, 600


def too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"no answer within {PROCESSOR_SECONDS} s of work, or {SECONDS} s of waiting")


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


def tensor_file(header: object, values: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + values


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
