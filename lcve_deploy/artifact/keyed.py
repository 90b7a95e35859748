"""Read, write and check ``server/keyed.safetensors``: the only tensors of a model that depend on the key.

The graph refers to them as external data, by offset and length in this file. A key is therefore rotated by replacing
this one file, provided that every tensor keeps its offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.tensorfile import map_tensors, tensor_ranges
from lcve_deploy.errors import ArtifactError
from lcve_deploy.geometry import ClipGeometry

__all__ = ["KEYED", "KEYED_TENSORS", "check_keyed", "keyed_ranges", "read_keyed", "write_keyed"]

KEYED: Final = "keyed.safetensors"

KEYED_TENSORS: Final = (
    "cube_embedding.weight",
    "positional_encoding",
    "readout.index",
    "head.weight",
    "head.bias",
)
"""Names of all keyed tensors; ``readout.index`` is present only if the classifier reads a single token."""

Tensors = Mapping[str, npt.NDArray[Any]]


def write_keyed(folder: Path, tensors: Tensors) -> Path:
    """Write the keyed tensors into a folder that is being staged, and return the path of the file.

    Offsets depend only on names, dtypes and shapes, not on values.
    """
    from safetensors.numpy import save

    path = folder / KEYED
    # Not ascontiguousarray: it would add an axis to a scalar, such as the readout index.
    path.write_bytes(save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}))
    return path


def read_keyed(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the keyed tensors of a server folder.

    Raises:
        ArtifactError: the file is missing or unreadable, or does not have the tensors of a model.
    """
    path = folder / KEYED
    tensors = map_tensors(path)
    if set(tensors) | {"readout.index"} != set(KEYED_TENSORS):
        raise ArtifactError(f"{path} has the tensors {', '.join(sorted(tensors))}, expected {', '.join(KEYED_TENSORS)}")
    return tensors


def keyed_ranges(path: Path) -> dict[str, tuple[int, int]]:
    """Return offset and length (bytes) of every keyed tensor, as the graph states them for its external data."""
    return tensor_ranges(path)


def check_keyed(tensors: Tensors, geometry: ClipGeometry, classes: int) -> None:
    """Check that keyed tensors match a geometry and a number of classes.

    Raises:
        ArtifactError: a tensor has another dtype or shape, or the readout index is out of range. The message lists
            all such tensors.
    """
    table, embedding = tensors["positional_encoding"], tensors["cube_embedding.weight"]
    tokens, width = max(geometry.cubes, len(np.atleast_1d(table))), embedding.shape[-1] if embedding.ndim else 0
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "cube_embedding.weight": ("float32", (geometry.values, width)),
        "positional_encoding": ("float32", (tokens, width)),
        "readout.index": ("int64", ()),
        "head.weight": ("float32", (width, classes)),
        "head.bias": ("float32", (classes,)),
    }
    problems = [
        f"{name} is {tensor.dtype} {list(tensor.shape)}, expected {expected[name][0]} {list(expected[name][1])}"
        for name, tensor in tensors.items()
        if (str(tensor.dtype), tensor.shape) != expected[name]
    ]
    if not problems and not 0 <= int(tensors.get("readout.index", np.int64(0))) < tokens:
        problems = [f"readout.index is {int(tensors['readout.index'])}, expected a token index below {tokens}"]
    if problems:
        raise ArtifactError(f"the keyed tensors do not match the manifest: {'; '.join(problems)}")
