"""What a PyTorch file asks for, found out before any of it is made.

torch's restricted unpickler runs no foreign code. But it makes what a pickle asks for, and a few
bytes can ask for gigabytes, or for a key whose hash takes for ever. So its instructions are read
first, without following them.

Source: ``pickletools`` for the instructions; torch ``_weights_only_unpickler`` for those it follows.
"""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

__all__ = ["MAX_INSTRUCTIONS", "MAX_PICKLE_BYTES", "MAX_RECORDS", "check_torch_file", "inert_classes", "is_archive"]

MAX_PICKLE_BYTES: Final = 64 * 2**20
"""Bytes of the instructions in a checkpoint; the values of its tensors are stored apart from them."""
MAX_INSTRUCTIONS: Final = 2**19
"""Instructions of a pickle: 20 for every tensor of a model, of its average and of its optimizer, and to spare."""
MAX_RECORDS: Final = 2**17
"""Files in the archive of a checkpoint: one a tensor, and a few more."""

_LEGACY_PICKLES: Final = 5  # magic number, version, system, content, names of the storages
_END_BYTES: Final = 22
_MAGIC: Final = b"PK\x03\x04"
_END_MAGIC: Final = b"PK\x05\x06"
_SPARE_ITEMS: Final = 2**20
_MAX_DEPTH: Final = 500
_FILLING: Final = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"})

_GLOBALS: Final = frozenset(
    {
        "argparse.Namespace",
        "collections.Counter",
        "collections.OrderedDict",
        "builtins.complex",
        "builtins.set",
        "__builtin__.complex",
        "__builtin__.set",
        "_codecs.encode",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
    }
)
"""What a checkpoint may name, in addition to torch's dtypes and storages."""
_PATHS: Final = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_PATH_MODULES: Final = ("pathlib", "pathlib._local")
_DTYPES: Final = ("float", "bfloat", "int", "uint", "bool", "complex")


def check_torch_file(path: Path) -> None:
    """Check what is pickled in a ``torch.save`` file, of either format.

    Raises:
        pickle.UnpicklingError: it asks for more than tensors and plain values.
        ValueError: damaged, or no such file.
        zipfile.BadZipFile: an archive that is damaged, or not as torch writes it.
    """
    if not is_archive(path):
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(file)
        return
    with zipfile.ZipFile(path) as archive:
        _check_archive(path, archive)
        pickles = [record for record in archive.infolist() if record.filename.lower().endswith(".pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise zipfile.BadZipFile(
                f"{len(pickles)} pickles in an archive, expected one of at most {MAX_PICKLE_BYTES} bytes"
            )
        _check_pickle(io.BytesIO(archive.read(pickles[0])))


def is_archive(path: Path) -> bool:
    """Whether torch takes a file for a zip archive: by how it begins, and not by how it ends."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Check that the archive is as torch writes it, so that no other reader finds another one in the file."""
    records = archive.infolist()
    names = {record.filename.lower() for record in records}
    with path.open("rb") as file:
        file.seek(-_END_BYTES, io.SEEK_END)
        end = file.read()
    if not end.startswith(_END_MAGIC) or end[-2:] != b"\0\0":
        raise zipfile.BadZipFile("bytes after the end of the archive")
    if not records or min(record.header_offset for record in records) != 0:
        raise zipfile.BadZipFile("bytes before the archive, or none in it")
    if any(record.filename != record.orig_filename or not record.filename.isprintable() for record in records):
        raise zipfile.BadZipFile("names of records that cannot be shown")
    if len(records) > MAX_RECORDS or len(names) < len(records):
        raise zipfile.BadZipFile(f"{len(records)} records, expected at most {MAX_RECORDS}, each with a name of its own")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise zipfile.BadZipFile("records that are compressed; torch.save compresses none")


class _Value(NamedTuple):
    """What is known of a value that a pickle would make.

    Args:
        items: how many values it has within when it is written out in full.
        depth: how many are within each other.
        said: a text, or the name of a global; of a tuple, what is said of its last entry.
    """

    items: int = 1
    depth: int = 1
    said: str = ""


def _check_pickle(file: BinaryIO) -> None:
    """Check every name that a pickle takes, every text that it encodes, and how large its values come to be.

    A value can stand in many places of another one, and so on: then a few instructions make a key
    whose hash takes for ever. One that is nested deep enough overruns the stack of the interpreter.
    """
    stack, marks, memo = list[_Value](), list[list[_Value]](), dict[int, _Value]()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name == "MARK":
            marks.append(stack)
            stack = []
        elif opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = stack[-1] if stack else _Value()
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(argument or 0), _Value()))
        else:
            stack = _follow(opcode, argument, stack, marks)
        if count > MAX_INSTRUCTIONS:
            raise pickle.UnpicklingError(f"more than {MAX_INSTRUCTIONS} instructions")
        if stack and (stack[-1].items > _SPARE_ITEMS + 16 * count or stack[-1].depth > _MAX_DEPTH):
            raise pickle.UnpicklingError("values within values that come to more than any checkpoint has")


def _follow(
    opcode: pickletools.OpcodeInfo, argument: object, stack: list[_Value], marks: list[list[_Value]]
) -> list[_Value]:
    """The stack after an instruction that takes values and leaves at most one that has them all."""
    before, taken = opcode.stack_before, list[_Value]()
    if pickletools.markobject in before:
        taken, stack = stack, marks.pop() if marks else []
        before = before[: before.index(pickletools.markobject)]
    first = max(len(stack) - len(before), 0)
    stack, taken = stack[:first], [*stack[first:], *taken]
    if opcode.name == "REDUCE":
        _check_call(taken)
    if opcode.stack_after:
        stack.append(_made(opcode.name, argument, taken))
    return stack


def _made(name: str, argument: object, taken: Sequence[_Value]) -> _Value:
    if name == "GLOBAL":
        return _Value(said=_checked_global(str(argument)))
    if name in ("BINPERSID", "BINUNICODE"):
        return _Value(said=str(argument or ""))
    said = taken[-1].said if taken and name.startswith("TUPLE") else ""
    filled = 1 if name in _FILLING else 0
    depth = 1 + max((value.depth for value in taken[filled:]), default=0)
    return _Value(
        1 + sum(value.items for value in taken), max([depth, *(value.depth for value in taken[:filled])]), said
    )


def _check_call(taken: Sequence[_Value]) -> None:
    """Python's pickles write bytes as latin1; other codecs can take time without end."""
    if taken and taken[0].said == "_codecs.encode" and taken[-1].said != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {taken[-1].said[:80]!r}, expected latin1")


def _checked_global(argument: str) -> str:
    module, _, name = argument.partition(" ")
    path = module in _PATH_MODULES and name in _PATHS
    known = path or f"{module}.{name}" in _GLOBALS or (module == "torch" and _is_plain(name))
    if not known:
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
    return f"{module}.{name}"


def _is_plain(name: str) -> bool:
    """Whether this is a dtype or the name of a storage, and not a class whose call makes one of any size."""
    return name.startswith(_DTYPES) or (name.endswith("Storage") and name not in ("TypedStorage", "UntypedStorage"))


def inert_classes() -> list[Any]:
    """What training scripts save along with weights, under the names by which pickles ask for it.

    NumPy's own would make a value of any size, or one that is not what its bytes are.
    """
    return [
        argparse.Namespace,
        (_Kind, "numpy.dtype"),
        (_number, "numpy.core.multiarray.scalar"),
        (_number, "numpy._core.multiarray.scalar"),
        *((_path, f"{module}.{name}") for module in _PATH_MODULES for name in _PATHS),
    ]


class _Kind:
    """Stands in for a NumPy dtype in a pickle: one of bool, whole numbers and floats, in either byte order."""

    def __init__(self, text: str, align: object = False, copy: object = False) -> None:
        dtype = np.dtype(text) if isinstance(text, str) and len(text) <= len("float64") else None
        if dtype is None or dtype.kind not in "biuf":
            raise ValueError("a NumPy value that is no number")
        self.dtype: np.dtype[Any] = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take over the byte order, the second of the state's entries; the rest says nothing of a number."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _number(kind: _Kind, data: bytes = b"") -> np.generic:
    """Stands in for NumPy's maker of scalars."""
    if not isinstance(kind, _Kind) or not isinstance(data, bytes) or len(data) != kind.dtype.itemsize:
        raise ValueError("a NumPy value that is not as long as its kind")
    value: np.generic = np.frombuffer(data, kind.dtype)[0]
    return value


def _path(*parts: object) -> str:
    """Stands in for the classes of pathlib: a text, with which nothing is opened."""
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path that is not made of texts")
    return "/".join(map(str, parts))
