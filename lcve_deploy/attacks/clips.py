"""Recover K1 and K2 from plain clips and their encryption, with known or chosen clips.

A shuffle keeps the multiset of values of every cube, so equal multisets match the cubes. Positions in a cube are then
matched by their values over all cubes.

Source: permutation-only ciphers fall to a number of known clips that grows with the logarithm of their
size (Li and others, Signal Processing: Image Communication 23, 2008).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, encrypted, film, random_truth
from lcve_deploy.attacks.solvers.equal_rows import pair_equal_rows, row_classes

__all__ = [
    "ask_chosen",
    "count_distinct",
    "equal_in_known",
    "first_known",
    "known_clips",
    "match_known",
    "match_pairs",
    "plant_chosen",
    "plant_known",
    "same_clip",
]

Numbers = npt.NDArray[np.integer]

_ROUNDS: Final = 2
_BASE: Final = 256
_SPAN: Final = 2**31
_AXES: Final = {1: "cubes", 2: "values"}
_EQUAL: Final = {
    "cubes": "the known clips have the same content in all cubes",
    "values": "the known clips have the same values in all positions of a cube",
    "signs": "the known clips have the same values in all positions of a cube",
}


def match_known(holdings: Holdings) -> Estimate:
    """Run ``match_pairs`` on the known clips."""
    return match_pairs(*holdings.known) if holdings.known else Estimate()


def match_pairs(plain: Numbers, cipher: Numbers) -> Estimate:
    """Match cubes by their multisets of values, positions by their values over cubes, and cubes again by content.

    Cubes or positions that are equal in all known clips cannot be distinguished; they are assigned in order.

    Args:
        plain: known clips in cubes ``[clips, N, L]``, integers 0..2^31 - 1.
        cipher: encryption of each clip, of the same shape.
    """
    groups = row_classes(_sets_of_values(plain), _sets_of_values(cipher))
    cubes = values = None
    for _ in range(_ROUNDS):
        series = (_series(clips, group) for clips, group in zip((plain, cipher), groups, strict=True))
        values = pair_equal_rows(*row_classes(*series))
        contents = (_joined(plain.take(values, axis=-1)), _joined(cipher))
        groups = row_classes(*contents)
        cubes = pair_equal_rows(*groups)
    return Estimate(cubes=cubes, values=values)


def first_known(holdings: Holdings, count: float, rng: np.random.Generator) -> Holdings:
    """Return holdings with only the first ``count`` known clips."""
    known = holdings.known and (holdings.known[0][: int(count)], holdings.known[1][: int(count)])
    return Holdings(geometry=holdings.geometry, scheme=holdings.scheme, known=known)


def known_clips(holdings: Holdings) -> int:
    """Return the number of known clips."""
    return len(holdings.known[0]) if holdings.known else 0


def count_distinct(plain: Cubes) -> dict[str, int]:
    """Return how many cubes, and how many positions in a cube, known clips ``[clips, N, L]`` distinguish at most."""
    sizes = np.abs(plain)
    rows = {name: np.moveaxis(sizes, axis, 0).reshape(sizes.shape[axis], -1) for axis, name in _AXES.items()}
    return {name: len(np.unique(each, axis=0)) for name, each in rows.items()}


def equal_in_known(holdings: Holdings) -> dict[str, str]:
    """Return which orders cannot be found with the known clips, and why; by field of an estimate."""
    if holdings.known is None:
        return {}
    count = count_distinct(holdings.known[0])
    count["signs"] = count["values"]  # a sign is found with its coefficient
    return {name: reason for name, reason in _EQUAL.items() if count[name] == 1}


def ask_chosen(holdings: Holdings) -> Estimate:
    """Have clips encrypted whose values encode the index of their cube and of their position, in base 256."""
    geometry, oracle = holdings.geometry, holdings.oracle
    if oracle is None:
        return Estimate()
    shape = geometry.cubes, geometry.values
    by_cube = np.stack([np.broadcast_to(digit[:, None], shape) for digit in _digits(geometry.cubes)])
    by_value = np.stack([np.broadcast_to(digit, shape) for digit in _digits(geometry.values)])
    encrypted_digits = oracle(np.concatenate([by_cube, by_value]).astype(np.uint8))
    cube_digits, value_digits = encrypted_digits[: len(by_cube), :, 0], encrypted_digits[len(by_cube) :, 0, :]
    return Estimate(cubes=_number(cube_digits), values=_number(value_digits))


def same_clip(plain: Cubes, cipher: Cubes) -> bool:
    """Return whether ``cipher`` may be the encryption of ``plain``, both ``[N, L]``: whether their cubes match."""
    sets = (np.sort(_sets_of_values(clip[None]).view(f"V{clip.shape[1]}"), axis=0) for clip in (plain, cipher))
    first, second = sets
    return bool((first == second).all())


def plant_known(rng: np.random.Generator) -> Planted:
    """Return one clip of a real film and its encryption."""
    truth, plain = random_truth(rng), film()[:1]
    holdings = Holdings(geometry=CONTROL_GEOMETRY, known=(plain, encrypted(plain, truth)))
    return Planted(holdings=holdings, truth=truth)


def plant_chosen(rng: np.random.Generator) -> Planted:
    """Return an oracle with random orders."""
    truth = random_truth(rng)
    holdings = Holdings(geometry=CONTROL_GEOMETRY, oracle=lambda cubes: encrypted(cubes, truth))
    return Planted(holdings=holdings, truth=truth)


def _joined(clips: Numbers) -> Numbers:
    """Return the content of every cube in all clips, ``[N, clips · L]``."""
    return np.ascontiguousarray(clips.transpose(1, 0, 2)).reshape(clips.shape[1], -1)


def _sets_of_values(clips: Numbers) -> Numbers:
    return _joined(np.sort(clips, axis=-1))


def _series(clips: Numbers, groups: Order) -> npt.NDArray[np.int64]:
    """Return the values at every position of a cube, over all cubes in the order of their groups, ``[L, clips · N]``.

    The order within a group is not known yet, so its values are sorted.
    """
    keys = clips.astype(np.int64) + _SPAN * groups[:, None]
    ordered = np.sort(keys, axis=-2)
    return np.ascontiguousarray(ordered.transpose(2, 0, 1)).reshape(clips.shape[2], -1)


def _digits(count: int) -> list[npt.NDArray[np.int64]]:
    """Return the digits of 0..count-1 in base 256, least significant first."""
    numbers, digits = np.arange(count), list[npt.NDArray[np.int64]]()
    while not digits or numbers.any():
        digits.append(numbers % _BASE)
        numbers = numbers // _BASE
    return digits


def _number(digits: npt.NDArray[np.uint8]) -> Order:
    """Return the numbers with these digits, ``[digits, count]``."""
    weights = _BASE ** np.arange(len(digits), dtype=np.int64)
    numbers: Order = weights @ digits.astype(np.int64)
    return numbers
