"""Controls of the attacks on variants: each solves a planted case, and finds nothing where nothing is to be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.variants.bases import agreement, find_basis
from benchmarks.variants.basis import Block, rebased, secret_basis
from benchmarks.variants.tokens import lay_out_tokens, match_table, sort_tokens, sorted_right
from benchmarks.variants.trials import colours_seen, psnr
from benchmarks.variants.weaker import hide_in_kernel, remove_noise, rotate_values, undo_rotation
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, film, smooth_field
from lcve_deploy.attacks.planted.footage import footage
from lcve_deploy.attacks.score import Space, score_order
from lcve_deploy.model.transformer import sinusoid_table

Array = npt.NDArray[np.float64]
Scores = dict[str, tuple[float, float]]
"""By attack: what it reached of the planted case, and by chance."""

_CLIPS, _WIDTH = 24, 96


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a planted case must reach, and chance must not exceed."""

    planted: float
    chance: float


BOUNDS = {
    "sort tokens": Bounds(planted=0.99, chance=0.05),
    "lay tokens out": Bounds(planted=0.95, chance=0.05),
    "match the table": Bounds(planted=0.99, chance=0.05),
    "see colours": Bounds(planted=0.8, chance=0.1),
    "find the basis": Bounds(planted=0.99, chance=0.1),
    "undo the rotation, dB": Bounds(planted=35, chance=20),
    "remove the noise, dB": Bounds(planted=22, chance=18),
}


def run_controls(rng: np.random.Generator) -> Scores:
    """Run the controls of every attack."""
    parts: tuple[Callable[[np.random.Generator], Scores], ...] = (_tokens, _table, _colours, _basis, _rotation, _noise)
    return {name: scores for part in parts for name, scores in part(rng).items()}


def controls_hold(scores: Scores) -> bool:
    """Return whether every attack solved its planted case, and was at chance otherwise."""
    return scores.keys() == BOUNDS.keys() and all(
        planted >= BOUNDS[name].planted and chance <= BOUNDS[name].chance for name, (planted, chance) in scores.items()
    )


def _sent(positions: Array, content: Array, rng: np.random.Generator) -> tuple[Array, npt.NDArray[np.int64]]:
    plain = (content + positions) @ secret_basis(positions.shape[1], rng)
    orders = np.stack([rng.permutation(plain.shape[1]) for _ in plain])
    return np.take_along_axis(plain, orders[..., None], axis=1), orders


def _tokens(rng: np.random.Generator) -> Scores:
    """Learned positions under content of half their strength; and content without any position."""
    grid, cells = CONTROL_GEOMETRY.grid, CONTROL_GEOMETRY.cubes
    positions = smooth_field(rng, grid, (2, 3, 3), features=_WIDTH, noise=0.3)
    content = 0.5 * rng.standard_normal((_CLIPS, cells, _WIDTH))
    space = Space(grid=grid, symmetric=True)
    scores = []
    for table in (positions, np.zeros_like(positions)):
        sent, orders = _sent(table, content, rng)
        found = sort_tokens(sent)
        position = np.empty_like(orders[0])
        position[found.classes[0]] = orders[0]
        laid = score_order(lay_out_tokens(found, grid), position, space).exact
        scores.append((sorted_right(found.classes, orders), laid))
    (solved, laid), (chance, aside) = scores
    return {"sort tokens": (solved, chance), "lay tokens out": (laid, aside)}


def _table(rng: np.random.Generator) -> Scores:
    cells = CONTROL_GEOMETRY.cubes
    table = sinusoid_table(cells, _WIDTH).astype(np.float64)
    content = 0.3 * rng.standard_normal((_CLIPS, cells, _WIDTH))
    shares = []
    for positions in (table, rng.standard_normal(table.shape)):
        sent, orders = _sent(positions, content, rng)
        found = sort_tokens(sent)
        position = np.empty_like(orders[0])
        position[found.classes[0]] = orders[0]
        line = Space(grid=(cells,), symmetric=True)  # the table from its end is the table, rotated
        shares.append(score_order(match_table(found, table), position, line).exact)
    return {"match the table": (shares[0], shares[1])}


def _colours(rng: np.random.Generator) -> Scores:
    """Footage under a random embedding; and the same with the cubes of every clip in another order."""
    geometry = CONTROL_GEOMETRY
    clips = geometry.to_cubes(footage(geometry, _CLIPS, rng), np)
    tokens = clips.astype(np.float64) @ rng.standard_normal((geometry.values, _WIDTH))
    mixed = np.stack([rng.permutation(clip) for clip in tokens])
    planted, chance = (colours_seen(clips, seen, geometry.grid) for seen in (tokens, mixed))
    return {"see colours": (planted, chance)}


def _basis(rng: np.random.Generator) -> Scores:
    """A random model that drifted by a tenth of its deviation; and another random model."""
    blocks, strangers = ([_random_block(rng) for _ in range(3)] for _ in range(2))
    basis = secret_basis(_WIDTH, rng)
    secret = [rebased(block, basis, rng) for block in blocks]
    drifted = [_drifted(block, rng) for block in blocks]
    return {
        "find the basis": (
            agreement(find_basis(drifted, secret), basis),
            abs(agreement(find_basis(strangers, secret), basis)),
        )
    }


def _rotation(rng: np.random.Generator) -> Scores:
    """One known clip of the film opens the other; an unrelated one does not."""
    known, shown = film().astype(np.float64)
    rotation, order = np.linalg.qr(rng.standard_normal((known.shape[1],) * 2))[0], rng.permutation(len(known))
    scores = []
    for held in (known, rng.uniform(0, 255, known.shape)):
        found, placed = undo_rotation(held, rotate_values(known, rotation, order))
        opened = np.empty_like(shown)
        opened[placed] = rotate_values(shown, rotation, order) @ found.T
        scores.append(psnr(opened, shown))
    return {"undo the rotation, dB": (scores[0], scores[1])}


def _noise(rng: np.random.Generator) -> Scores:
    """Noise in the kernel of a random embedding; and noise along every direction."""
    clip = film()[0].astype(np.float64)
    width = clip.shape[1] * 3 // 4
    hidden = hide_in_kernel(clip, rng.standard_normal((clip.shape[1], width)), 64.0, rng)
    everywhere = clip + 64.0 * rng.standard_normal(clip.shape)
    planted, chance = (psnr(remove_noise(noisy, width), clip) for noisy in (hidden, everywhere))
    return {"remove the noise, dB": (planted, chance)}


def _random_block(rng: np.random.Generator) -> Block:
    hidden = 4 * _WIDTH
    shapes = {
        "query": (_WIDTH, _WIDTH),
        "query_bias": (_WIDTH,),
        "key": (_WIDTH, _WIDTH),
        "value": (_WIDTH, _WIDTH),
        "value_bias": (_WIDTH,),
        "output": (_WIDTH, _WIDTH),
        "output_bias": (_WIDTH,),
        "first": (_WIDTH, hidden),
        "first_bias": (hidden,),
        "second": (hidden, _WIDTH),
        "second_bias": (_WIDTH,),
    }
    return Block(**{name: rng.standard_normal(shape) for name, shape in shapes.items()}, heads=4)


def _drifted(block: Block, rng: np.random.Generator) -> Block:
    tensors = {name: tensor for name, tensor in vars(block).items() if name != "heads"}
    return replace(block, **{name: at + 0.1 * rng.standard_normal(at.shape) for name, at in tensors.items()})
