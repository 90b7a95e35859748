"""Safetensors files by their bytes: where tensors stand, and the same file with other values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import check_safetensors

__all__ = ["map_tensors", "rewritten", "tensor_places", "write_parts"]

_LENGTH_BYTES: Final = 8
_DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def tensor_places(path: Path) -> dict[str, tuple[int, int]]:
    """Where every tensor of a file begins, and its length; bytes from the start of the file."""
    header_bytes, header = _header(path)
    start = _LENGTH_BYTES + header_bytes
    places = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (start + first, last - first) for name, (first, last) in places.items()}


def map_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a file, read-only and not copied: their bytes are read when they are used.

    Raises:
        ArtifactError: no such file, not a safetensors file, or one with dtypes that no artifact has.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_safetensors(path, "a safetensors file", ArtifactError, hint="export the artifact again")
        with safe_open(path, framework="numpy") as file:  # checks the rest of the header
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            kinds = {name: (_DTYPES[part.get_dtype()], part.get_shape()) for name, part in parts.items()}
    except (SafetensorError, OSError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint="export the artifact again") from None
    data, places = np.memmap(path, np.uint8, "r"), tensor_places(path)
    return {
        name: np.asarray(data[places[name][0] :][: places[name][1]]).view(dtype).reshape(shape)
        for name, (dtype, shape) in kinds.items()
    }


def rewritten(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> list[memoryview]:
    """The bytes of a file with other values of the same tensors; nothing but its header is taken over.

    So every tensor keeps its place, whichever version of a library wrote the file.

    Args:
        path: of a file that safetensors has read already, and so without gaps.
        tensors: by the names in the file, with the dtypes and shapes that they have there.

    Returns:
        The file in parts, one after the other.

    Raises:
        ArtifactError: other names, or tensors that do not fill their places.
    """
    places = tensor_places(path)
    if {name: tensor.nbytes for name, tensor in tensors.items()} != {name: places[name][1] for name in places}:
        raise ArtifactError(f"expected the tensors {', '.join(places)} as {path} has them, received others")
    with path.open("rb") as file:
        header = file.read(min(first for first, _ in places.values()))
    in_order = sorted(places, key=lambda name: places[name][0])
    return [memoryview(header), *(_bytes(tensors[name]) for name in in_order)]


def write_parts(path: Path, parts: Iterable[memoryview]) -> None:
    """Write a file, part after part."""
    with path.open("wb") as file:
        file.writelines(parts)


def _bytes(tensor: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header: dict[str, Any] = json.loads(file.read(header_bytes))
    return header_bytes, header
