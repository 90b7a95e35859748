"""Locate tensors in safetensors files by byte range, and replace their values without moving them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import check_safetensors

__all__ = ["map_tensors", "replace_tensors", "tensor_ranges", "write_parts"]

_LENGTH_BYTES: Final = 8
_DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def tensor_ranges(path: Path) -> dict[str, tuple[int, int]]:
    """Return offset and length of every tensor, in bytes; offsets count from the start of the file.

    The file must have been checked, for example by ``map_tensors``.
    """
    header_bytes, header = _header(path)
    start = _LENGTH_BYTES + header_bytes
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (start + first, last - first) for name, (first, last) in offsets.items()}


def map_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Map the tensors of a file into memory, read-only; their bytes are read on first use.

    Raises:
        ArtifactError: the file is missing, is not a safetensors file, or has a dtype that artifacts do not use.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_safetensors(path, "a safetensors file", ArtifactError, hint="export the artifact again")
        with safe_open(path, framework="numpy") as file:  # checks the rest of the header
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            kinds = {name: (_DTYPES[part.get_dtype()], part.get_shape()) for name, part in parts.items()}
    except (SafetensorError, OSError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint="export the artifact again") from None
    data, ranges = np.memmap(path, np.uint8, "r"), tensor_ranges(path)
    return {
        name: np.asarray(data[ranges[name][0] :][: ranges[name][1]]).view(dtype).reshape(shape)
        for name, (dtype, shape) in kinds.items()
    }


def replace_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> list[memoryview]:
    """Build the content of a file with new values for all of its tensors; the file itself is not changed.

    The header is copied, so every tensor keeps its offset, whichever version of safetensors wrote the file.

    Args:
        path: file that safetensors has already read without error, and that therefore has no gaps.
        tensors: new values by name, with the dtypes and shapes of the file.

    Returns:
        Content of the new file in parts, in order.

    Raises:
        ArtifactError: names or sizes of the tensors differ from those in the file.
    """
    ranges = tensor_ranges(path)
    if {name: tensor.nbytes for name, tensor in tensors.items()} != {name: ranges[name][1] for name in ranges}:
        raise ArtifactError(f"expected the tensors {', '.join(ranges)} with the sizes in {path}, received others")
    with path.open("rb") as file:
        header = file.read(min(first for first, _ in ranges.values()))
    in_order = sorted(ranges, key=lambda name: ranges[name][0])
    return [memoryview(header), *(_bytes(tensors[name]) for name in in_order)]


def write_parts(path: Path, parts: Iterable[memoryview]) -> None:
    """Write a file from its parts, in order."""
    with path.open("wb") as file:
        file.writelines(parts)


def _bytes(tensor: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header: dict[str, Any] = json.loads(file.read(header_bytes))
    return header_bytes, header
