"""Lay out all rows on a grid at once; for rows that change smoothly over the whole grid.

First, an embedding gives every row a position: distances along the graph of nearest rows, or the lowest eigenvectors of
that graph. Then linear assignment sorting: blur the laid-out rows, assign every row to the cell with the most similar
blurred row, and repeat with less blur.

Source: Isomap (Tenenbaum and others, Science 2000), Laplacian eigenmaps (Belkin and Niyogi, 2003), linear
assignment sorting (Barthel and others, Computer Graphics Forum 2023).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order
from lcve_deploy.attacks.solvers.assignment import assign, normalise_rows

__all__ = ["principal", "sort_layout"]

Floats = npt.NDArray[Any]

_COARSE: Final = 32
_FINE: Final = 128
_NEAREST: Final = (8, 16)
_ROTATIONS: Final = 4
_STEPS: Final = 20
_MIN_WEIGHT: Final = 1e-12
_LAST_BLUR: Final = 0.6
_FINE_BLURS: Final = (1.0, 0.8, 0.7, 0.6, 0.6, 0.6)


def sort_layout(rows: Floats, grid: tuple[int, ...]) -> Order:
    """Lay out all rows.

    Args:
        rows: float ``[cells, features]``; their mean is subtracted.
        grid: size of the grid; it has as many cells as there are rows.

    Returns:
        Row at each cell, row-major; int64 ``[cells]``.
    """
    coarse, fine = principal(rows, _COARSE), principal(rows, _FINE)
    layout = min(_first_layouts(coarse, grid), key=lambda candidate: _roughness(coarse[candidate], grid))
    for blur in np.geomspace(max(max(grid) / 4, _LAST_BLUR), _LAST_BLUR, _STEPS):
        layout = _nearest(_blurred(coarse[layout], grid, blur), coarse)
    for blur in _FINE_BLURS:
        layout = _nearest(_blurred(fine[layout], grid, blur), fine)
    return layout


def principal(rows: Floats, count: int) -> Floats:
    """Return the first principal components of rows, ``[rows, at most count]``."""
    centred = np.asarray(rows, dtype=np.float64) - np.mean(rows, axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    components: Floats = (u * s)[:, :count]
    return components


def _first_layouts(rows: Floats, grid: tuple[int, ...]) -> Iterator[Order]:
    """Yield layouts from several embeddings of the rows, in several rotations: an embedding has no orientation."""
    cells = np.stack(np.unravel_index(np.arange(len(rows)), grid), axis=1).astype(np.float64)
    cells -= cells.mean(axis=0)
    axes = sorted((axis for axis, size in enumerate(grid) if size > 1), key=lambda axis: -grid[axis])
    counts = [nearest for nearest in _NEAREST if nearest < len(rows)] or [len(rows) - 1]
    for features, nearest in itertools.product((rows, normalise_rows(rows)), counts):
        for points in _maps(features, nearest, len(axes)):
            spread = np.zeros_like(cells)
            spread[:, axes] = points * (cells[:, axes].std(axis=0) / np.maximum(points.std(axis=0), 1e-12))
            for turn in _turns(grid):
                yield _nearest(cells, spread @ turn)


def _maps(rows: Floats, nearest: int, axes: int) -> Iterator[Floats]:
    from scipy.sparse.csgraph import shortest_path

    distances = np.sqrt(_squared_distances(rows, rows))
    graph = _nearest_graph(distances, nearest)
    along = shortest_path(graph, directed=False)
    finite = np.isfinite(along)
    yield _scaled(np.where(finite, along, 1.5 * along[finite].max()), axes)
    if axes <= 2:  # with more axes, the lowest eigenvectors need not be one for each axis
        yield _waves(distances, nearest, axes)


def _scaled(distances: Floats, axes: int) -> Floats:
    """Return points with approximately these distances, by classical multidimensional scaling."""
    squares = distances**2
    centred = squares - squares.mean(axis=0) - squares.mean(axis=1)[:, None] + squares.mean()
    values, vectors = _leading(-centred / 2, axes)
    return vectors * np.sqrt(np.maximum(values, 0))


def _waves(distances: Floats, nearest: int, axes: int) -> Floats:
    graph = _nearest_graph(distances, nearest)
    scale = np.median(graph[graph > 0] ** 2)
    weights = np.where(graph > 0, np.exp(-(graph**2) / scale), 0)
    degree = np.sqrt(np.maximum(weights.sum(axis=1), _MIN_WEIGHT))  # a row far from all others has none
    _, vectors = _leading(weights / (degree[:, None] * degree), axes + 1)
    waves: Floats = (vectors / degree[:, None])[:, 1:]
    return waves


def _nearest_graph(distances: Floats, nearest: int) -> Floats:
    """Return the symmetric graph of distances to the nearest rows; 0 if there is no edge."""
    order = np.argsort(distances, axis=1)[:, 1 : nearest + 1]
    graph = np.zeros_like(distances)
    np.put_along_axis(graph, order, np.maximum(np.take_along_axis(distances, order, axis=1), 1e-9), axis=1)
    return np.maximum(graph, graph.T)


def _leading(matrix: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the largest eigenvalues, and their eigenvectors in columns."""
    from scipy.linalg import eigh

    values, vectors = eigh(matrix, subset_by_index=(len(matrix) - count, len(matrix) - 1))
    if len(values) < count:  # LAPACK finds none of them if many are equal
        values, vectors = eigh(matrix)
    return values[::-1][:count], vectors[:, ::-1][:, :count]


def _turns(grid: tuple[int, ...]) -> Iterator[Floats]:
    """Yield the identity, and rotations by fractions of a quarter turn in each plane of two axes of equal size."""
    yield np.eye(len(grid))
    for a, b in itertools.combinations(range(len(grid)), 2):
        if grid[a] == grid[b] > 1:
            for angle in np.linspace(0, np.pi / 2, _ROTATIONS, endpoint=False)[1:]:
                turn = np.eye(len(grid))
                turn[[a, b], [a, b]], turn[a, b], turn[b, a] = np.cos(angle), -np.sin(angle), np.sin(angle)
                yield turn


def _nearest(cells: Floats, rows: Floats) -> Order:
    """Return the row of each cell in the assignment with the smallest total squared distance."""
    return assign(-_squared_distances(cells, rows))


def _squared_distances(rows: Floats, others: Floats) -> Floats:
    squares: Floats = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
    return np.maximum(squares, 0)


def _roughness(laid: Floats, grid: tuple[int, ...]) -> float:
    field = laid.reshape(*grid, -1)
    return float(sum((np.diff(field, axis=axis) ** 2).sum() for axis in range(len(grid))))


def _blurred(laid: Floats, grid: tuple[int, ...], blur: float) -> Floats:
    """Return Gaussian means over the grid, normalised at its edges."""
    from scipy.ndimage import gaussian_filter1d

    field, inside = laid.reshape(*grid, -1), np.ones((*grid, 1))
    for axis, size in enumerate(grid):
        if size > 1:
            field = gaussian_filter1d(field, blur, axis=axis, mode="constant")
            inside = gaussian_filter1d(inside, blur, axis=axis, mode="constant")
    means: Floats = (field / inside).reshape(len(laid), -1)
    return means
