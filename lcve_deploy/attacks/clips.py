"""K1 and K2 from plain clips and their encryption: known ones, and ones of the attacker's choice.

A shuffle keeps the set of values of every cube, so equal sets show which cube went where; then a place in
the cube is known by its values over all cubes.

Source: permutation-only ciphers fall to a number of known clips that grows with the logarithm of their
size (Li and others, Signal Processing: Image Communication 23, 2008).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, encrypted, film, random_truth
from lcve_deploy.attacks.solvers.equal_rows import paired, row_classes

__all__ = [
    "ask_chosen",
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


def match_known(holdings: Holdings) -> Estimate:
    """See ``match_pairs``."""
    return match_pairs(*holdings.known) if holdings.known else Estimate()


def match_pairs(plain: Numbers, cipher: Numbers) -> Estimate:
    """Match cubes by their sets of values, values by their series over cubes, and cubes again by their content.

    Cubes or values that are equal in all known clips cannot be told apart, and are assigned in their order.

    Args:
        plain: known clips in cubes ``[clips, N, L]``, any whole numbers of 0 to 2^31 - 1.
        cipher: the encryption of each.
    """
    groups = row_classes(_sets_of_values(plain), _sets_of_values(cipher))
    cubes = values = None
    for _ in range(_ROUNDS):
        series = (_series(clips, group) for clips, group in zip((plain, cipher), groups, strict=True))
        values = paired(*row_classes(*series))
        contents = (_joined(plain.take(values, axis=-1)), _joined(cipher))
        groups = row_classes(*contents)
        cubes = paired(*groups)
    return Estimate(cubes=cubes, values=values)


def first_known(holdings: Holdings, count: float, rng: np.random.Generator) -> Holdings:
    """What an attacker holds who knows fewer clips."""
    known = holdings.known and (holdings.known[0][: int(count)], holdings.known[1][: int(count)])
    return Holdings(geometry=holdings.geometry, known=known)


def known_clips(holdings: Holdings) -> int:
    """How many clips are known."""
    return len(holdings.known[0]) if holdings.known else 0


def ask_chosen(holdings: Holdings) -> Estimate:
    """Have clips encrypted that spell out the number of every cube and value, in digits of base 256."""
    geometry, oracle = holdings.geometry, holdings.oracle
    if oracle is None:
        return Estimate()
    shape = geometry.cubes, geometry.values
    by_cube = np.stack([np.broadcast_to(digit[:, None], shape) for digit in _digits(geometry.cubes)])
    by_value = np.stack([np.broadcast_to(digit, shape) for digit in _digits(geometry.values)])
    asked = oracle(np.concatenate([by_cube, by_value]).astype(np.uint8))
    return Estimate(cubes=_number(asked[: len(by_cube), :, 0]), values=_number(asked[len(by_cube) :, 0, :]))


def same_clip(plain: Cubes, cipher: Cubes) -> bool:
    """Whether an encrypted clip ``[N, L]`` may be the encryption of a plain one: its cubes have the same sets."""
    sets = (np.sort(_sets_of_values(clip[None]).view(f"V{clip.shape[1]}"), axis=0) for clip in (plain, cipher))
    first, second = sets
    return bool((first == second).all())


def plant_known(rng: np.random.Generator) -> Planted:
    """One clip of a real film, and its encryption."""
    truth, plain = random_truth(rng), film()[:1]
    holdings = Holdings(geometry=CONTROL_GEOMETRY, known=(plain, encrypted(plain, truth)))
    return Planted(holdings=holdings, truth=truth)


def plant_chosen(rng: np.random.Generator) -> Planted:
    """An oracle with random orders."""
    truth = random_truth(rng)
    holdings = Holdings(geometry=CONTROL_GEOMETRY, oracle=lambda cubes: encrypted(cubes, truth))
    return Planted(holdings=holdings, truth=truth)


def _joined(clips: Numbers) -> Numbers:
    """The content of every cube in all clips, ``[N, clips · L]``."""
    return np.ascontiguousarray(clips.transpose(1, 0, 2)).reshape(clips.shape[1], -1)


def _sets_of_values(clips: Numbers) -> Numbers:
    return _joined(np.sort(clips, axis=-1))


def _series(clips: Numbers, groups: Order) -> npt.NDArray[np.int64]:
    """The values at every place of a cube, over all cubes in the order of their groups: ``[L, clips · N]``.

    Within a group nobody knows the order yet, so there values are sorted.
    """
    keys = clips.astype(np.int64) + _SPAN * groups[:, None]
    ordered = np.sort(keys, axis=-2)
    return np.ascontiguousarray(ordered.transpose(2, 0, 1)).reshape(clips.shape[2], -1)


def _digits(count: int) -> list[npt.NDArray[np.int64]]:
    """Digits of 0..count-1 in base 256, the lowest first."""
    numbers, digits = np.arange(count), list[npt.NDArray[np.int64]]()
    while not digits or numbers.any():
        digits.append(numbers % _BASE)
        numbers = numbers // _BASE
    return digits


def _number(digits: npt.NDArray[np.uint8]) -> Order:
    """Numbers of the digits ``[digits, count]``."""
    weights = _BASE ** np.arange(len(digits), dtype=np.int64)
    numbers: Order = weights @ digits.astype(np.int64)
    return numbers
