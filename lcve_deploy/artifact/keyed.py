"""``server/keyed.safetensors``: the only tensors of a model that depend on the key.

The graph names them as external data in this file, by place and length. So a key is rotated by
replacing this one file, as long as every tensor keeps its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import ArtifactError

__all__ = ["KEYED", "KEYED_TENSORS", "keyed_places", "read_keyed", "write_keyed"]

KEYED: Final = "keyed.safetensors"

KEYED_TENSORS: Final = (
    "cube_embedding.weight",
    "positional_encoding",
    "readout.index",
    "head.weight",
    "head.bias",
)
"""Names of all keyed tensors; ``readout.index`` is there only where the classifier reads one token."""

_LENGTH_BYTES: Final = 8

Tensors = Mapping[str, npt.NDArray[Any]]


def write_keyed(folder: Path, tensors: Tensors) -> Path:
    """Write the keyed tensors into a folder that is being staged; equal shapes get equal places."""
    from safetensors.numpy import save_file

    path = folder / KEYED
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
    return path


def read_keyed(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the keyed tensors of a server folder.

    Raises:
        ArtifactError: no such file, or not the tensors of a model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / KEYED
    try:
        tensors: dict[str, npt.NDArray[Any]] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint="export the artifact again") from None
    if set(tensors) | {"readout.index"} != set(KEYED_TENSORS):
        raise ArtifactError(f"{path} has the tensors {', '.join(sorted(tensors))}, expected {', '.join(KEYED_TENSORS)}")
    return tensors


def keyed_places(path: Path) -> dict[str, tuple[int, int]]:
    """Where every tensor of a keyed file begins, and its length; bytes from the start of the file."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(header_bytes))
    start = _LENGTH_BYTES + header_bytes
    places = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (start + first, last - first) for name, (first, last) in places.items()}
