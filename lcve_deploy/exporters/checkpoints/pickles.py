"""Check the pickle in a PyTorch file before it is loaded.

torch's restricted unpickler runs no code from the file. But it creates every value that a pickle describes, and a few
bytes can describe gigabytes, or a dictionary key whose hash never finishes. Therefore the instructions are checked
first, without executing them.

Source: ``pickletools`` for the instructions; torch ``_weights_only_unpickler`` for those that it executes.
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
"""Maximum size of the pickle in a checkpoint, bytes; the values of tensors are stored outside of it."""
MAX_INSTRUCTIONS: Final = 2**19
"""Maximum number of instructions in a pickle; every tensor of model, average and optimizer needs about 20."""
MAX_RECORDS: Final = 2**17
"""Maximum number of files in the archive of a checkpoint: one per tensor, and a few more."""

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
"""Globals that a checkpoint may use, in addition to torch's dtypes and storages."""
_PATHS: Final = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_PATH_MODULES: Final = ("pathlib", "pathlib._local")
_DTYPES: Final = ("float", "bfloat", "int", "uint", "bool", "complex")


def check_torch_file(path: Path) -> None:
    """Check the pickles in a ``torch.save`` file of either format, zip or legacy.

    Raises:
        pickle.UnpicklingError: a pickle has more than tensors and plain values, or exceeds a limit.
        ValueError: the file is damaged, or of another format.
        zipfile.BadZipFile: the archive is damaged, or not as torch writes it.
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
    """Tell whether torch reads a file as a zip archive, which depends on its first bytes and not on its last."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Check that the archive is as torch writes it, so that every reader finds the same records in the file."""
    records = archive.infolist()
    names = {record.filename.lower() for record in records}
    with path.open("rb") as file:
        file.seek(-_END_BYTES, io.SEEK_END)
        end = file.read()
    if not end.startswith(_END_MAGIC) or end[-2:] != b"\0\0":
        raise zipfile.BadZipFile("bytes after the end of the archive")
    if not records or min(record.header_offset for record in records) != 0:
        raise zipfile.BadZipFile("bytes before the archive, or no records")
    if any(record.filename != record.orig_filename or not record.filename.isprintable() for record in records):
        raise zipfile.BadZipFile("record names that are not printable")
    if len(records) > MAX_RECORDS or len(names) < len(records):
        raise zipfile.BadZipFile(f"{len(records)} records, expected at most {MAX_RECORDS} with distinct names")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise zipfile.BadZipFile("compressed records, which torch.save does not write")


class _Value(NamedTuple):
    """Summary of a value that a pickle would create.

    Args:
        items: number of values inside it, with shared values counted each time.
        depth: nesting depth.
        text: content of a string or name of a global; for a tuple, the text of its last entry.
    """

    items: int = 1
    depth: int = 1
    text: str = ""


def _check_pickle(file: BinaryIO) -> None:
    """Check the globals, the encoded strings, and the size and depth of all values of a pickle.

    Size counts shared values each time. A value can contain another one many times, which does so in turn: then a few
    instructions create a dictionary key whose hash never finishes. Deep nesting overflows the interpreter's stack.
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
            stack = _apply(opcode, argument, stack, marks)
        if count > MAX_INSTRUCTIONS:
            raise pickle.UnpicklingError(f"more than {MAX_INSTRUCTIONS} instructions")
        if stack and (stack[-1].items > _SPARE_ITEMS + 16 * count or stack[-1].depth > _MAX_DEPTH):
            raise pickle.UnpicklingError("nested values that are larger or deeper than those of any checkpoint")


def _apply(
    opcode: pickletools.OpcodeInfo, argument: object, stack: list[_Value], marks: list[list[_Value]]
) -> list[_Value]:
    """Return the stack after an instruction that pops values and pushes at most one that contains them all."""
    before, taken = opcode.stack_before, list[_Value]()
    if pickletools.markobject in before:
        taken, stack = stack, marks.pop() if marks else []
        before = before[: before.index(pickletools.markobject)]
    first = max(len(stack) - len(before), 0)
    stack, taken = stack[:first], [*stack[first:], *taken]
    if opcode.name == "REDUCE":
        _check_call(taken)
    if opcode.stack_after:
        stack.append(_result(opcode.name, argument, taken))
    return stack


def _result(name: str, argument: object, taken: Sequence[_Value]) -> _Value:
    if name == "GLOBAL":
        return _Value(text=_checked_global(str(argument)))
    if name in ("BINPERSID", "BINUNICODE"):
        return _Value(text=str(argument or ""))
    text = taken[-1].text if taken and name.startswith("TUPLE") else ""
    filled = 1 if name in _FILLING else 0
    depth = 1 + max((value.depth for value in taken[filled:]), default=0)
    return _Value(
        1 + sum(value.items for value in taken), max([depth, *(value.depth for value in taken[:filled])]), text
    )


def _check_call(taken: Sequence[_Value]) -> None:
    """Allow only latin1, in which Python pickles bytes; other codecs can take unlimited time."""
    if taken and taken[0].text == "_codecs.encode" and taken[-1].text != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {taken[-1].text[:80]!r}, expected latin1")


def _checked_global(argument: str) -> str:
    module, _, name = argument.partition(" ")
    path = module in _PATH_MODULES and name in _PATHS
    known = path or f"{module}.{name}" in _GLOBALS or (module == "torch" and _is_plain(name))
    if not known:
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
    return f"{module}.{name}"


def _is_plain(name: str) -> bool:
    """Tell whether a name of torch is a dtype or a typed storage, and not a class that can allocate any size."""
    return name.startswith(_DTYPES) or (name.endswith("Storage") and name not in ("TypedStorage", "UntypedStorage"))


def inert_classes() -> list[Any]:
    """Return safe stand-ins for the classes that training scripts save with weights, with their names in pickles.

    NumPy's own functions could create values of any size, or values that do not match their bytes.
    """
    return [
        argparse.Namespace,
        (_Dtype, "numpy.dtype"),
        (_number, "numpy.core.multiarray.scalar"),
        (_number, "numpy._core.multiarray.scalar"),
        *((_path, f"{module}.{name}") for module in _PATH_MODULES for name in _PATHS),
    ]


class _Dtype:
    """Stand-in for a NumPy dtype: a boolean, integer or floating-point type, in either byte order."""

    def __init__(self, text: str, align: object = False, copy: object = False) -> None:
        dtype = np.dtype(text) if isinstance(text, str) and len(text) <= len("float64") else None
        if dtype is None or dtype.kind not in "biuf":
            raise ValueError("a NumPy value that is not a number")
        self.dtype: np.dtype[Any] = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Set the byte order, the second entry of the state; the other entries do not matter for numbers."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _number(dtype: _Dtype, data: bytes = b"") -> np.generic:
    """Create a NumPy scalar; stand-in for NumPy's own function."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or len(data) != dtype.dtype.itemsize:
        raise ValueError("a NumPy value that does not have the size of its dtype")
    value: np.generic = np.frombuffer(data, dtype.dtype)[0]
    return value


def _path(*parts: object) -> str:
    """Join the parts of a path to a string; stand-in for the classes of pathlib."""
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path with a part that is not a string")
    return "/".join(map(str, parts))
