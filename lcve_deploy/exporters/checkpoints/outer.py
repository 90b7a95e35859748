"""Read the outer weights of a checkpoint: cube embedding, positions and classifier, shaped like the keyed tensors.

Attacks with a reference model use them. A pre-trained encoder without a classifier is enough, and the blocks of the
model are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.arguments import stated_families, training_arguments
from lcve_deploy.exporters.checkpoints.assemble import require_finite
from lcve_deploy.exporters.checkpoints.families import FAMILIES
from lcve_deploy.exporters.checkpoints.hub import require_own_files, snapshot
from lcve_deploy.exporters.checkpoints.huggingface import FAMILIES as FOLDER_FAMILIES
from lcve_deploy.exporters.checkpoints.layouts import ALL_LAYOUTS
from lcve_deploy.exporters.checkpoints.positions import TableFunction, videomae_table
from lcve_deploy.exporters.checkpoints.reading import read_folder_weights, read_pickled, to_arrays
from lcve_deploy.exporters.checkpoints.timm_families import TIMM
from lcve_deploy.exporters.checkpoints.wrappers import find_weights
from lcve_deploy.geometry import ClipGeometry

__all__ = ["load_outer_weights"]

_OUTER: Final = ("cube_embedding.weight", "positional_encoding", "head.weight", "head.bias")

_CONV2D_AXES: Final = 4

Floats = npt.NDArray[np.floating]


def load_outer_weights(path: Path, geometry: ClipGeometry) -> dict[str, Floats]:
    """Read the outer weights of a checkpoint, in the plain order.

    Args:
        path: official ``.pth`` file or Hugging Face folder.
        geometry: geometry of clip and cubes. If the checkpoint has no positions, the table of its family is computed.

    Returns:
        ``cube_embedding.weight`` ``[L, D]``; ``positional_encoding`` ``[tokens, D]``, unless the family has no such
        table; and, if the checkpoint has a classifier, ``head.weight`` ``[D, classes]`` and ``head.bias``
        ``[classes]``. The input normalisation is not folded in.

    Raises:
        CheckpointError: the checkpoint is damaged or unsafe, has NaN or infinite values, or has no cube embedding
            for cubes of this geometry.
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
    positions = found.get("positional_encoding")
    if positions is None and table is not None:
        positions = table(geometry, width)
    if positions is not None:
        outer["positional_encoding"] = _rows(positions, width)
    if {"head.weight", "head.bias"} <= set(found):
        head = _rows(found["head.weight"], width)
        if found["head.bias"].shape == (len(head),):
            outer |= {"head.weight": head.T, "head.bias": found["head.bias"]}
    return outer


def _read(path: Path) -> tuple[Mapping[str, Any], TableFunction | None]:
    """Return the weights, and the function that computes positions if they are missing; None if the family has none."""
    if path.is_dir():
        weights = read_folder_weights(path)
        return weights, videomae_table if any(name.startswith("videomae.") for name in weights) else None
    content = read_pickled(path)
    saved = find_weights(content, path)
    families = stated_families(training_arguments(content, saved.place))
    return saved.tensors, FAMILIES[families[0]].table if len(families) == 1 else videomae_table


def _rows(matrix: Floats, width: int) -> Floats:
    """Reshape a matrix to ``[rows, width]``; positions have an additional batch axis of length one."""
    if matrix.ndim < 2 or matrix.shape[-1] != width:
        raise CheckpointError(f"expected rows of the embedding's width {width}, received {list(matrix.shape)}")
    return matrix.reshape(-1, width)


def _source(target: str, source: Mapping[str, Any]) -> str | None:
    """Return the source name of a weight in a checkpoint of any family; None if it is missing."""
    layouts = (*ALL_LAYOUTS, TIMM, *(family.rules for family in FOLDER_FAMILIES.values()))
    rules = (rule for layout in layouts for rule in layout if rule.target == target)
    return next((names[0] for rule in rules for names in rule.sources if names[0] in source), None)


def _columns(kernel: Floats, geometry: ClipGeometry) -> Floats:
    """Reshape a kernel ``[D, C, t, h, w]``, or ``[D, C, h, w]`` of an image, to ``[L, D]``, as the values of a cube."""
    if kernel.ndim == _CONV2D_AXES:
        kernel = kernel[:, :, None]
    expected = (geometry.channels, *geometry.cube)
    if kernel.shape[1:] != expected:
        raise CheckpointError(
            f"expected a reference with cubes of [channels, t, h, w] = {list(expected)} like the artifact, received "
            f"{list(kernel.shape[1:])}",
            hint="pass a checkpoint of the same family and cube size",
        )
    return kernel.transpose(2, 3, 4, 1, 0).reshape(geometry.values, len(kernel))
