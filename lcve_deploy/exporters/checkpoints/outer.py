"""The outer weights of any checkpoint: cube embedding, positions and classifier, as the keyed tensors are.

For attacks with a reference: a pre-trained encoder without a classifier will do, and what the rest of the
model is does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.arguments import said_families, training_arguments
from lcve_deploy.exporters.checkpoints.assemble import require_finite
from lcve_deploy.exporters.checkpoints.families import FAMILIES
from lcve_deploy.exporters.checkpoints.hub import require_own_files, snapshot
from lcve_deploy.exporters.checkpoints.layouts import ALL_LAYOUTS
from lcve_deploy.exporters.checkpoints.positions import MakeTable, videomae_table
from lcve_deploy.exporters.checkpoints.reading import read_folder_weights, read_pickled, to_arrays
from lcve_deploy.exporters.checkpoints.wrappers import find_weights
from lcve_deploy.geometry import ClipGeometry

__all__ = ["load_outer_weights"]

_OUTER: Final = ("cube_embedding.weight", "positional_encoding", "head.weight", "head.bias")

Floats = npt.NDArray[np.floating]


def load_outer_weights(path: Path, geometry: ClipGeometry) -> dict[str, Floats]:
    """Read what a checkpoint has of the outer weights, in the plain order.

    Args:
        path: official ``.pth`` file or Hugging Face folder.
        geometry: clip and cube; a checkpoint without positions gets the table of its family.

    Returns:
        ``cube_embedding.weight`` ``[L, D]``, ``positional_encoding`` ``[tokens, D]``, and where they are there
        ``head.weight`` ``[D, classes]`` and ``head.bias`` ``[classes]``. No normalisation is folded in.

    Raises:
        CheckpointError: damaged, unsafe, not finite, or without a cube embedding of this geometry's cubes.
    """
    if path.is_dir():
        path = snapshot(path)
        require_own_files(path)
    source, table = _read(path)
    names = {target: name for target in _OUTER if (name := _source(target, source))}
    picked = {target: source[name] for target, name in names.items()}
    found = picked if path.is_dir() else to_arrays(picked, stored=path.stat().st_size)
    if "cube_embedding.weight" not in found:
        raise CheckpointError(
            f"{path} has no cube embedding under a known name", hint="see docs/reference/checkpoints.md"
        )
    require_finite(found)
    columns = _columns(found["cube_embedding.weight"], geometry)
    width = columns.shape[1]
    outer = {"cube_embedding.weight": columns}
    outer["positional_encoding"] = _rows(
        found["positional_encoding"] if "positional_encoding" in found else table(geometry, width), width
    )
    if {"head.weight", "head.bias"} <= set(found):
        head = _rows(found["head.weight"], width)
        if found["head.bias"].shape == (len(head),):
            outer |= {"head.weight": head.T, "head.bias": found["head.bias"]}
    return outer


def _read(path: Path) -> tuple[Mapping[str, Any], MakeTable]:
    """The weights, and what makes the positions that they may lack."""
    if path.is_dir():
        return read_folder_weights(path), videomae_table
    content = read_pickled(path)
    saved = find_weights(content, path)
    said = said_families(training_arguments(content, saved.place))
    return saved.tensors, FAMILIES[said[0]].table if len(said) == 1 else videomae_table


def _rows(matrix: Floats, width: int) -> Floats:
    """Rows of the model's width; positions have a batch axis of one before them."""
    if matrix.ndim < 2 or matrix.shape[-1] != width:
        raise CheckpointError(f"expected rows of the embedding's width {width}, received {list(matrix.shape)}")
    return matrix.reshape(-1, width)


def _source(target: str, source: Mapping[str, Any]) -> str | None:
    """The name under which a checkpoint of any family has one of our weights."""
    rules = (rule for layout in ALL_LAYOUTS for rule in layout if rule.target == target)
    return next((names[0] for rule in rules for names in rule.sources if names[0] in source), None)


def _columns(kernel: Floats, geometry: ClipGeometry) -> Floats:
    """The kernel ``[D, C, t, h, w]`` as rows of filters in the order of the values of a cube, ``[L, D]``."""
    expected = (geometry.channels, *geometry.cube)
    if kernel.shape[1:] != expected:
        raise CheckpointError(
            f"the reference embeds cubes of [channels, t, h, w] = {list(kernel.shape[1:])}, the artifact "
            f"{list(expected)}",
            hint="pass a checkpoint of the same family and cube size",
        )
    return kernel.transpose(2, 3, 4, 1, 0).reshape(geometry.values, len(kernel))
