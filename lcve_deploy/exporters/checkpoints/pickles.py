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
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

__all__ = ["LARGEST_PICKLE", "MOST_RECORDS", "check_torch_file", "inert_classes"]

LARGEST_PICKLE: Final = 64 * 2**20
"""Bytes of the instructions in a checkpoint; the values of its tensors are stored apart from them."""
MOST_RECORDS: Final = 2**17
"""Files in the archive of a checkpoint: one a tensor, and a few more."""

_LEGACY_PICKLES: Final = 5  # magic number, version, system, content, names of the storages
_END_BYTES: Final = 22
_END_MAGIC: Final = b"PK\x05\x06"
_SPARE_ITEMS: Final = 2**20

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
"""What a checkpoint may name, besides torch's dtypes and storages."""
_DTYPES: Final = ("float", "bfloat", "int", "uint", "bool", "complex")


def check_torch_file(path: Path) -> None:
    """Check what is pickled in a ``torch.save`` file, of either format.

    Raises:
        pickle.UnpicklingError: it asks for more than tensors and plain values.
        ValueError: damaged, or no such file.
        zipfile.BadZipFile: a damaged archive.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(file)
        return
    with zipfile.ZipFile(path) as archive:
        _check_archive(path, archive)
        for record in archive.infolist():
            if record.filename.lower().endswith(".pkl"):
                if record.file_size > LARGEST_PICKLE:
                    raise ValueError(f"{record.file_size} bytes of pickle, expected at most {LARGEST_PICKLE}")
                _check_pickle(io.BytesIO(archive.read(record)))


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Check that the archive is as torch writes it, so that no other reader finds another one in the file."""
    records = archive.infolist()
    names = {record.filename.lower() for record in records}
    with path.open("rb") as file:
        file.seek(-_END_BYTES, io.SEEK_END)
        end = file.read()
    if not end.startswith(_END_MAGIC) or end[-2:] != b"\0\0":
        raise ValueError("bytes after the end of the archive")
    if not records or min(record.header_offset for record in records) != 0:
        raise ValueError("bytes before the archive, or none in it")
    if len(records) > MOST_RECORDS or len(names) < len(records):
        raise ValueError(f"{len(records)} records, expected at most {MOST_RECORDS}, each with a name of its own")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("records that are compressed; torch.save compresses none")


def _check_pickle(file: BinaryIO) -> None:
    """Check every name that a pickle takes, and what its values come to when they are written out in full.

    A value can stand in many places of another one, and so on: then a few instructions make a value
    that to compare, show or hash takes for ever.
    """
    stack, marks, memo = _Stack(), list[_Stack](), dict[int, int]()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name == "GLOBAL":
            _check_global(str(argument))
        if opcode.name == "MARK":
            marks.append(stack)
            stack = _Stack()
        elif opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = stack.top()
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            stack.push(memo.get(int(argument or 0), 1))
        else:
            stack = _follow(opcode, stack, marks)
        if stack.top() > _SPARE_ITEMS + 16 * count:
            raise pickle.UnpicklingError("values within values that come to more than any checkpoint has")


class _Stack(list[int]):
    """For each value on the stack of a pickle, how many items it has when it is written out in full."""

    def top(self) -> int:
        return self[-1] if self else 0

    def push(self, items: int) -> None:
        self.append(items)

    def take(self, count: int) -> int:
        """Take values off; returns their items."""
        first = max(len(self) - count, 0)
        items = sum(self[first:])
        del self[first:]
        return items


def _follow(opcode: pickletools.OpcodeInfo, stack: _Stack, marks: list[_Stack]) -> _Stack:
    """The stack after an instruction that takes values and leaves at most one that has them all."""
    items = 0
    before = opcode.stack_before
    if pickletools.markobject in before:
        items += sum(stack)
        stack = marks.pop() if marks else _Stack()
        before = before[: before.index(pickletools.markobject)]
    items += stack.take(len(before))
    if opcode.stack_after:
        stack.push(1 if opcode.name == "BINPERSID" else items + 1)
    return stack


def _check_global(argument: str) -> None:
    module, _, name = argument.partition(" ")
    known = f"{module}.{name}" in _GLOBALS or (module == "torch" and _is_plain(name))
    if not known:
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")


def _is_plain(name: str) -> bool:
    """Whether this is a dtype or the name of a storage, and not a class whose call makes one of any size."""
    return name.startswith(_DTYPES) or (name.endswith("Storage") and name not in ("TypedStorage", "UntypedStorage"))


def inert_classes() -> list[Any]:
    """What training scripts save beside weights, under the names by which pickles ask for it.

    NumPy's own would make a value of any size, or one that is not what its bytes are.
    """
    return [
        argparse.Namespace,
        (_Kind, "numpy.dtype"),
        (_number, "numpy.core.multiarray.scalar"),
        (_number, "numpy._core.multiarray.scalar"),
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
