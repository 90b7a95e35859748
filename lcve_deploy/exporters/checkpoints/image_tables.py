"""Compute what image models derive from their weights: interpolated tables, relative positions, folded queries, heads.

A function that changes the weights of a checkpoint takes them by their names there, and returns them with others. Every
computation has the precision and the order of the family's own code, so that its results are the same.

Source: Hugging Face transformers, ``modeling_*.py`` of the families in ``image_families``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.folders import Source, Weights
from lcve_deploy.exporters.checkpoints.rotary import dinov3_rotary, with_rotary
from lcve_deploy.exporters.checkpoints.settings import Settings, number
from lcve_deploy.model.shapes import RELATIVE_INDEX
from lcve_deploy.model.transformer import TransformerConfig

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["antialiased", "bicubic", "fitted_table", "linear_kernel", "patch_weights", "relative_index"]
__all__ += ["relative_positions", "rotated", "siglip_pooler", "two_heads"]

Floats = npt.NDArray[np.floating]
Resize = Callable[["Tensor", tuple[int, int]], "Tensor"]

_TABLES = ("embeddings.position_embeddings", "embeddings.position_embedding.weight")
_CLASS_PAIRS = 3
"""Relative positions that are not between two patches: class to patch, patch to class, class to class."""
_MAX_BASE = 1e6
_TABLE_AXES = 2


def fitted_table(resize: Resize, *, rows: int) -> Callable[[Source, TransformerConfig], Source]:
    """Return a function that fits a table of a square grid to the model's grid.

    Args:
        resize: the family's interpolation, from float32 ``[side, side, width]`` to ``[height, width, width]``.
        rows: rows at the start of the table that are those of prefix tokens. Other prefix tokens get zeros.
    """

    def fit(source: Source, config: TransformerConfig) -> Source:
        name = _name(source, *_TABLES)
        if name is None or source[name].ndim < _TABLE_AXES or not source[name].size:
            return source  # the error about its shape comes later
        table = source[name].reshape(-1, source[name].shape[-1])
        side = math.isqrt(max(len(table) - rows, 0))
        if side < 1 or side * side != len(table) - rows:
            raise CheckpointError(f"{name} has {len(table) - rows} positions, which are not those of a square image")
        grid = config.geometry.grid[1:]
        patches = table[rows:] if grid == (side, side) else _resized(table[rows:], resize, grid)
        registers = np.zeros((config.prefix - rows, table.shape[1]), table.dtype)
        return {**source, name: np.concatenate([table[:rows], registers, patches])}

    return fit


def _resized(patches: Floats, resize: Resize, grid: tuple[int, int]) -> Floats:
    import torch

    side = math.isqrt(len(patches))
    square = torch.from_numpy(patches.astype(np.float32)).reshape(side, side, -1)
    made: Floats = resize(square, grid).reshape(-1, patches.shape[1]).numpy()
    return made


def bicubic(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a table as DINOv2 does."""
    return _interpolated(table, grid, mode="bicubic", align_corners=False)


def antialiased(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a table as DINOv2 with registers does."""
    return _interpolated(table, grid, mode="bicubic", align_corners=False, antialias=True)


def _interpolated(table: Tensor, grid: tuple[int, int], **how: Any) -> Tensor:
    from torch.nn.functional import interpolate

    return interpolate(table.permute(2, 0, 1)[None], size=grid, **how)[0].permute(1, 2, 0)


def linear_kernel(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a table as SigLIP 2 does: linear along each axis, over a wider range when it shrinks."""
    import torch

    source = torch.arange(len(table), dtype=torch.float32)
    along = []
    for size in grid:
        scale = len(table) / torch.tensor(float(size))
        center = (torch.arange(size, dtype=torch.float32) + 0.5) * scale - 0.5
        weights = (1 - (source - center[:, None]).abs() / scale.clamp(min=1)).clamp(min=0)
        along.append(weights / weights.sum(-1, keepdim=True))
    pairs = (along[0][:, None, :, None] * along[1][None, :, None, :]).flatten(2).flatten(0, 1)
    return pairs @ table.flatten(0, 1)


def patch_weights(source: Source, config: TransformerConfig) -> Source:
    """Give SigLIP 2's linear embedding of patches the shape of a kernel."""
    name = _name(source, "embeddings.patch_embedding.weight")
    cube, channels = config.geometry.cube[1:], config.geometry.channels
    if name is None or source[name].ndim != 2 or source[name].shape[1] != config.geometry.values:
        return source  # the error about its shape comes later
    return {**source, name: source[name].reshape(-1, *cube, channels).transpose(0, 3, 1, 2)}


def two_heads(source: Source, config: TransformerConfig) -> Source:
    """Join DeiT's two classifiers into one: the mean of their logits, of the class and the distillation token."""
    names = tuple(f"{head}_classifier.{kind}" for kind in ("weight", "bias") for head in ("cls", "distillation"))
    taken, rest = _taken(source, names)
    *weights, first, second = taken
    if weights[0].ndim != 2 or weights[0].shape != weights[1].shape or first.shape != second.shape:
        raise CheckpointError(f"expected two classifiers of one shape, received {[list(part.shape) for part in taken]}")
    return {
        **rest,
        "classifier.weight": np.concatenate(weights, axis=1) / 2,
        "classifier.bias": (first.astype(np.float64) + second) / 2,
    }


def siglip_pooler(source: Source, config: TransformerConfig) -> Source:
    """Project the constant query of SigLIP's pooling, and divide the weights of its attention."""
    body = (_name(source, "head.probe") or "head.probe").removesuffix("probe")
    names = tuple(f"{body}{name}" for name in ("probe", "attention.in_proj_weight", "attention.in_proj_bias"))
    (probe, weight, bias), rest = _taken(source, names)
    width = config.width
    if (probe.size, weight.shape, bias.shape) != (width, (3 * width, width), (3 * width,)):
        raise CheckpointError(
            f"expected {names[0]} of width {width}, and three projections of it, received "
            f"{[list(part.shape) for part in (probe, weight, bias)]}"
        )
    query = weight[:width].astype(np.float64) @ probe.reshape(-1).astype(np.float64) + bias[:width]
    return {**rest, f"{body}query": query, f"{body}kv.weight": weight[width:], f"{body}kv.bias": bias[width:]}


def relative_positions(weights: Weights, config: TransformerConfig, settings: Settings) -> Weights:
    """Add the index of relative positions, and interpolate the biases of images that are not square, as BEiT does."""
    if not config.relative_buckets:
        return weights
    grid = config.geometry.grid[1:]
    names = [name for name in weights if name.endswith("attention.relative_bias")]
    biases = {name: _biases(weights[name], grid) for name in names} if grid[0] != grid[1] else {}
    return {**weights, **biases, RELATIVE_INDEX: relative_index(grid)}


def relative_index(grid: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return the relative position of each query and key, for a class token and a grid, int64 ``[tokens, tokens]``."""
    places = np.indices(grid).reshape(2, -1)
    rows, columns = places[:, :, None] - places[:, None, :] + (np.array(grid)[:, None, None] - 1)
    patches = rows * (2 * grid[1] - 1) + columns
    index = np.empty((len(patches) + 1,) * 2, np.int64)
    first = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    index[1:, 1:] = patches
    index[0, :], index[:, 0], index[0, 0] = first, first + 1, first + 2
    return index


def _biases(table: npt.NDArray[Any], grid: tuple[int, int]) -> npt.NDArray[Any]:
    """Interpolate biases from ``[columns, rows]`` to ``[rows, columns]``: BEiT's code does so even at its own size."""
    import torch
    from torch.nn.functional import interpolate

    height, width = 2 * grid[0] - 1, 2 * grid[1] - 1
    patches = torch.from_numpy(table[:-_CLASS_PAIRS].astype(np.float64)).reshape(1, width, height, -1)
    made = interpolate(patches.permute(0, 3, 1, 2), size=(height, width), mode="bilinear")
    flat = made.permute(0, 2, 3, 1).reshape(height * width, -1).numpy()
    return np.concatenate([flat, table[-_CLASS_PAIRS:]])


def rotated(weights: Weights, config: TransformerConfig, settings: Settings) -> Weights:
    """Add DINOv3's rotary tables."""
    base = number(settings, "rope_theta", below=_MAX_BASE)
    return dict(with_rotary(weights, config, dinov3_rotary(config.geometry, config.head_width, base=base)))


def _taken(source: Source, names: tuple[str, ...]) -> tuple[list[Floats], Source]:
    """Return the weights of these names, and all others.

    Raises:
        CheckpointError: some are missing.
    """
    if absent := [name for name in names if name not in source]:
        raise CheckpointError(f"the checkpoint's weights do not match the model: missing {', '.join(absent)}")
    return [source[name] for name in names], {name: array for name, array in source.items() if name not in names}


def _name(source: Source, *ends: str) -> str | None:
    """Return the name of a weight in a checkpoint, by the end of it."""
    return next((name for name in source if name.endswith(ends)), None)
