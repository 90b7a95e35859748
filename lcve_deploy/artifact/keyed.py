"""``server/keyed.safetensors``: the only tensors of a model that depend on the key.

The graph names them as external data in this file, by place and length. So a key is rotated by
replacing this one file, as long as every tensor keeps its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.tensorfile import map_tensors, tensor_places
from lcve_deploy.errors import ArtifactError
from lcve_deploy.geometry import ClipGeometry

__all__ = ["KEYED", "KEYED_TENSORS", "check_keyed", "keyed_places", "read_keyed", "write_keyed"]

KEYED: Final = "keyed.safetensors"

KEYED_TENSORS: Final = (
    "cube_embedding.weight",
    "positional_encoding",
    "readout.index",
    "head.weight",
    "head.bias",
)
"""Names of all keyed tensors; ``readout.index`` is there only where the classifier reads one token."""

Tensors = Mapping[str, npt.NDArray[Any]]


def write_keyed(folder: Path, tensors: Tensors) -> Path:
    """Write the keyed tensors into a folder that is being staged; equal shapes get equal places."""
    from safetensors.numpy import save

    path = folder / KEYED
    # Not ascontiguousarray: it would give a scalar, such as the readout index, an axis.
    path.write_bytes(save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}))
    return path


def read_keyed(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the keyed tensors of a server folder.

    Raises:
        ArtifactError: no such file, or not the tensors of a model.
    """
    path = folder / KEYED
    tensors = map_tensors(path)
    if set(tensors) | {"readout.index"} != set(KEYED_TENSORS):
        raise ArtifactError(f"{path} has the tensors {', '.join(sorted(tensors))}, expected {', '.join(KEYED_TENSORS)}")
    return tensors


def keyed_places(path: Path) -> dict[str, tuple[int, int]]:
    """Where every tensor of a keyed file begins, and its length; what the graph says of its external data."""
    return tensor_places(path)


def check_keyed(tensors: Tensors, geometry: ClipGeometry, classes: int) -> None:
    """Check that keyed tensors are those of a model with this geometry and number of classes.

    Raises:
        ArtifactError: names every tensor that has another dtype or shape.
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
        problems = [f"readout.index is {int(tensors['readout.index'])}, expected a token of {tokens}"]
    if problems:
        raise ArtifactError(f"the keyed tensors do not fit the manifest: {'; '.join(problems)}")
