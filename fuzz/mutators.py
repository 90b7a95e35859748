"""Mutations that keep the structure of a file, so that they reach what is behind its first check.

Every mutator takes bytes and a source of chance, and gives bytes. atheris and the tests share them.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import pickletools
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

INTEGERS = (0, 1, -1, 2, 3, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**40)
TEXTS = (
    "",
    "\0",
    "\ud800",
    "..",
    "../x",
    "/dev/zero",
    "\x1b[2J",
    "x" * 5000,
    "cubes",
    "video",
    "1x1",
    "9999x9999",
    "1x1x1x1/1x1x1",
    "999999999x999999999x999999999x3/1x1x1",
    "99999999999999999999x1x1x3/1x1x1",
    "16384x16384x1x1/1x1x1",
    "F16",
    "BF16",
    "F8_E4M3",
    "C64",
    "I4",
    "lcve-1",
    "0" * 32,
    "f" * 64,
)
VALUES: tuple[Any, ...] = (
    *INTEGERS,
    *TEXTS,
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None, 1],
    0.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
)
NUMBERS = ("1e999", "-1e999", "NaN", "9" * 4000, "1" * 5000, "0.", "00", "1e-400", "-0")
DTYPES = ("U8", "F32", "F64", "I64", "BF16", "F16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "BOOL", "I32", "C64", "X")
DESCRS = ("|u1", "<f4", "<f8", ">f4", "|O", "|V0", "|S0", "<U5", "<M8[ns]", "|b1", "<c16", "<f2")
GLOBALS = (
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._utils\n_rebuild_qtensor\n",
    b"ctorch._utils\n_rebuild_nested_tensor\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nHalfStorage\n",
    b"ctorch\nQInt8Storage\n",
    b"ctorch\nComplexFloatStorage\n",
    b"ctorch\nFloatTensor\n",
    b"ctorch\nSize\n",
    b"ctorch\ndevice\n",
    b"c__builtin__\nbytearray\n",
    b"c__builtin__\nset\n",
    b"c_codecs\nencode\n",
    b"ccollections\nOrderedDict\n",
    b"ccollections\nCounter\n",
    b"cargparse\nNamespace\n",
    b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\nscalar\n",
    b"cposix\nsystem\n",
)
PACKED = "<4sIIfIIII"
"""Header of a packed clip."""
OPCODES = tuple(op.code.encode("latin1") for op in pickletools.opcodes if op.arg is None)


def mutate_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flip, set, cut, double and insert, without knowing what the bytes mean."""
    if not data:
        return chance.randbytes(chance.randint(1, 16))
    at, size = chance.randrange(len(data)), chance.choice((1, 2, 4, 8))
    step = chance.randrange(6)
    if step == 0:
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if step == 1:
        number: int = chance.choice(INTEGERS) % 2 ** (8 * size)
        return data[:at] + number.to_bytes(size, chance.choice(("little", "big"))) + data[at + size :]
    if step == 2:
        return data[:at]
    if step == 3:
        return data[:at] + data[at + chance.randint(1, 64) :]
    if step == 4:
        return data[: at + chance.randint(1, 64)] + data[at:]
    return data[:at] + chance.randbytes(size) + data[at:]


def mutate_json(data: bytes, chance: random.Random) -> bytes:
    """Replace, remove, add or nest one value of a JSON document."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, chance)
    step = chance.randrange(12)
    if step == 0:
        return mutate_bytes(data, chance)
    if step == 1:
        return _with_raw_number(document, chance)
    if step == 2:  # the last of two equal keys counts
        return data.rstrip()[:-1] + b', "format": ' + json.dumps(chance.choice(VALUES)).encode() + b"}"
    return _dumped(mutate_value(document, chance))


def mutate_lines(data: bytes, chance: random.Random) -> bytes:
    """Change one of several JSON documents, a line each."""
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    return b"\n".join([*lines[:at], mutate_json(lines[at], chance), *lines[at + 1 :]])


def mutate_answer(data: bytes, chance: random.Random) -> bytes:
    """Change the length of a JSON header, the header or what follows; the length mostly follows the header."""
    size = int.from_bytes(data[:2], "little")
    if size > len(data) - 2 or chance.random() < 0.1:
        return mutate_bytes(data, chance)
    header, values = data[2 : 2 + size], data[2 + size :]
    if chance.random() < 0.2:
        return data[: 2 + size] + mutate_bytes(values, chance)
    header = mutate_json(header, chance)
    return (len(header) % 2**16).to_bytes(2, "little") + header + values


def mutate_value(value: Any, chance: random.Random) -> Any:
    """A JSON value with one change somewhere within."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        if chance.random() < 0.1:
            return {key: inner for key, inner in value.items() if key != name}
        if chance.random() < 0.1:
            return {**value, chance.choice(TEXTS): value[name]}
        return {**value, name: mutate_value(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        if chance.random() < 0.2:
            return value[:at] + value[at + 1 :]
        return [*value[:at], mutate_value(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.5:
        return mutate_bytes(value.encode(errors="replace"), chance).decode(errors="replace")
    if isinstance(value, int) and chance.random() < 0.3:
        return value + chance.choice((-1, 1, 7, value))
    if chance.random() < 0.03:
        return _nested(value, chance.choice((2, 70, 900)))
    return chance.choice(VALUES)


def _dumped(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 2000 + b"]" * 2000


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _with_raw_number(document: Any, chance: random.Random) -> bytes:
    """A number that Python would not write."""
    marked = _dumped(mutate_value(document, chance)).decode()
    digits = [at for at, character in enumerate(marked) if character.isdigit()]
    at = chance.choice(digits) if digits else 0
    return (marked[:at] + chance.choice(NUMBERS) + marked[at + 1 :]).encode()


def mutate_safetensors(data: bytes, chance: random.Random) -> bytes:
    """Change the length, the header or the values; the length mostly follows the header."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) or chance.random() < 0.1:
        return mutate_bytes(data, chance)
    header, values = data[8 : 8 + size], data[8 + size :]
    step = chance.randrange(8)
    if step == 0:
        return struct.pack("<Q", chance.choice(INTEGERS) % 2**64) + data[8:]
    if step == 1:
        return data[: 8 + size] + mutate_bytes(values, chance)
    header = _mutate_tensors(header, chance) if step < 5 else mutate_json(header, chance)
    return struct.pack("<Q", len(header)) + header + values


def _mutate_tensors(header: bytes, chance: random.Random) -> bytes:
    """Change how one tensor is described: dtype, shape and place, at times so that they still agree."""
    try:
        tensors = json.loads(header)
    except (ValueError, RecursionError):
        return mutate_bytes(header, chance)
    if not isinstance(tensors, dict):
        return mutate_json(header, chance)
    names = [name for name, entry in tensors.items() if isinstance(entry, dict) and "shape" in entry]
    if not names:
        return mutate_json(header, chance)
    name = chance.choice(names)
    entry = dict(tensors[name])
    step = chance.randrange(6)
    if step == 0:
        entry["dtype"] = chance.choice(DTYPES)
    elif step == 1:
        entry["shape"] = mutate_value(entry["shape"], chance)
    elif step == 2:
        entry["shape"] = [*(entry["shape"] if isinstance(entry["shape"], list) else []), chance.choice((0, 1, 2**62))]
    elif step == 3:
        entry = {**entry, "shape": [0, chance.choice(INTEGERS)], "data_offsets": [0, 0]}
    elif step == 4:
        return _dumped({**tensors, name: list(entry.values())})
    else:
        renamed = {chance.choice(TEXTS) if key == name else key: inner for key, inner in tensors.items()}
        return _dumped(renamed)
    return _dumped({**tensors, name: entry})


def mutate_sealed(data: bytes, chance: random.Random) -> bytes:
    """A sealed file: its bytes, its header as JSON in the one form that is taken, or the length of the header."""
    way, start = chance.random(), 12
    last = start + int.from_bytes(data[8:start], "little")
    if way < 0.4 or not data.startswith(b"LCVESEAL") or last > len(data):
        return mutate_bytes(data, chance)
    head, body = data[start:last], data[last:]
    if way < 0.5:
        return data[:8] + struct.pack("<I", chance.choice((0, 1, 4096, 4097, 2**31, 2**32 - 1, len(data)))) + data[12:]
    head = mutate_json(head, chance)
    with contextlib.suppress(ValueError, RecursionError):
        head = json.dumps(json.loads(head), sort_keys=True, separators=(",", ":")).encode()
    return data[:8] + struct.pack("<I", len(head)) + head + body


def mutate_packed(data: bytes, chance: random.Random) -> bytes:
    """The first packed clip: its bytes, or with a checksum that is right, its header or what is in a stream."""
    start = struct.calcsize(PACKED)
    if chance.random() < 0.2 or len(data) < start or not data.startswith(b"LDCT"):
        return mutate_bytes(data, chance)
    size, *_ = struct.unpack_from("<I", data, 4)
    head, body, rest = data[:start], data[start:size], data[size:]
    if chance.random() < 0.3:
        head = head[:12] + mutate_bytes(head[12:], chance)[:20].ljust(20, b"\0")
    else:
        head, body = _mutate_stream(head, body, chance)
    return _packed_again(head, body) + rest


def _mutate_stream(head: bytes, body: bytes, chance: random.Random) -> tuple[bytes, bytes]:
    sizes = list(struct.unpack_from("<3I", head, 20))
    chosen, first, streams = chance.randrange(3), 0, []
    for number, size in enumerate(sizes):
        stream = body[first : first + size]
        first += size
        if number == chosen:
            with contextlib.suppress(zlib.error):
                stream = _deflated(mutate_bytes(zlib.decompressobj(-15).decompress(stream, 2**20), chance))
        streams.append(stream)
    return head[:20] + struct.pack("<3I", *map(len, streams)), b"".join(streams) + body[first:]


def _deflated(content: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(content) + stream.flush()


def _packed_again(head: bytes, body: bytes) -> bytes:
    """Return a packed clip with its length and checksum."""
    checked = head[12:] + body
    return b"LDCT" + struct.pack("<II", 12 + len(checked), zlib.crc32(checked)) + checked


def mutate_npy(data: bytes, chance: random.Random) -> bytes:
    """Change shape or dtype in the header of an array, or its bytes."""
    end = data.find(b"\n") + 1
    if not data.startswith(b"\x93NUMPY") or not end or chance.random() < 0.2:
        return chance.choice((b"PK\x03\x04" + data, mutate_bytes(data, chance)))
    try:
        header = ast.literal_eval(data[10:end].decode("latin1"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return mutate_bytes(data, chance)
    if not isinstance(header, dict):
        return mutate_bytes(data, chance)
    step = chance.randrange(5)
    if step == 0:
        header["descr"] = chance.choice(DESCRS)
    elif step == 1:
        header["shape"] = tuple(chance.choice(INTEGERS) for _ in range(chance.randrange(5)))
    elif step == 2:
        header[chance.choice(list(header) or [""])] = chance.choice(VALUES)
    text = repr(header)
    if step == 3:
        text = text.replace("1", chance.choice(("-" * 9000 + "1", "1" * 9000, "(" * 150 + "1" + ")" * 150, "[1]")), 1)
    if step == 4:
        text = mutate_bytes(text.encode(errors="replace"), chance).decode("latin1")
    raw = text.encode("latin1", errors="replace") + b"\n"
    length = struct.pack("<H", len(raw) % 2**16) if chance.random() < 0.9 else struct.pack("<I", len(raw))
    return data[:6] + bytes([len(length) // 2, 0]) + length + raw + data[end:]


def mutate_pickle(data: bytes, chance: random.Random) -> bytes:
    """Change one instruction of a pickle: drop, double, swap, replace or give it another number."""
    try:
        starts = [at for _, _, at in pickletools.genops(data)]
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError):
        return mutate_bytes(data, chance)
    ends = [*starts[1:], len(data)]
    code = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    at = chance.randrange(len(code))
    step = chance.randrange(8)
    if step == 0:
        del code[at]
    elif step == 1:
        code.insert(at, code[at])
    elif step == 2:
        code[at] = chance.choice(GLOBALS)
    elif step == 3:
        code[at] = chance.choice(OPCODES)
    elif step == 4:
        code[at] = b"J" + struct.pack("<i", chance.choice(INTEGERS) % 2**32 - 2**31)
    elif step == 5:
        number = chance.choice(INTEGERS) * chance.choice((1, -1))
        code[at] = b"\x8a\x14" + number.to_bytes(20, "little", signed=True)
    elif step == 6:
        other = chance.randrange(len(code))
        code[at], code[other] = code[other], code[at]
    else:
        code.insert(at, chance.choice(code))
    return b"".join(code)


def mutate_torch(data: bytes, chance: random.Random) -> bytes:
    """Change what is pickled in a torch file, or its archive."""
    if not data.startswith(b"PK"):
        return mutate_pickle(data, chance) if chance.random() < 0.7 else mutate_bytes(data, chance)
    if chance.random() < 0.15:
        return mutate_bytes(data, chance)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, OSError, EOFError, OverflowError):
        return mutate_bytes(data, chance)
    name = next((name for name in entries if name.endswith("data.pkl")), "")
    if name and chance.random() < 0.85:
        entries[name] = mutate_pickle(entries[name], chance)
    elif entries:
        other = chance.choice(list(entries))
        entries[other] = mutate_bytes(entries[other], chance)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED if chance.random() < 0.05 else zipfile.ZIP_STORED) as target:
        for entry, content in entries.items():
            target.writestr(entry, content)
    return memory.getvalue()


def mutate_folder(data: bytes, chance: random.Random) -> bytes:
    """Change the file of a folder that the first byte stands for."""
    part, rest = data[:1], data[1:]
    mutate = {b"c": mutate_json, b"p": mutate_json, b"i": mutate_json, b"w": mutate_safetensors, b"b": mutate_torch}
    return part + mutate.get(part, mutate_bytes)(rest, chance)
