"""How far one known clip opens other clips, for every compared encryption.

An attacker who knows clips and their ciphertexts estimates the orders, and decrypts other clips under the same key. As
a control, he decrypts the same clips under a key that he knows nothing of. Everything is drawn from fixed seeds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.samples import real_clips
from paper.experiments import dataset
from paper.experiments.files import write_json
from paper.experiments.known_clips.attacks import break_known
from paper.experiments.records import RESULTS
from paper.methods.encryption import Clips, Encryption
from paper.methods.learnable_encryption import LearnableEncryption
from paper.methods.shuffles import Shuffle
from paper.methods.table import ENCRYPTIONS, Method, experiment_key

__all__ = [
    "DIGITS",
    "FILM",
    "PATH",
    "Subject",
    "Trial",
    "found_shares",
    "measure",
    "measure_method",
    "read",
    "write",
]

FILM: Final = "film"
DIGITS: Final = "digits"
PATH: Final = RESULTS / "known-clips.json"

_FILM_GEOMETRY: Final = ClipGeometry.parse("16x224x224x3/2x16x16")
_DIGIT_TRIALS: Final = 8
_KEY, _OTHER_KEY = 0, 1
_PARTS_PER_MILLION: Final = 10**6


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """Clips that the attacker knows, and clips that he does not; uint8 ``[clips, T, H, W, C]``."""

    known: Clips
    others: Clips


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Clips of one kind.

    Args:
        name: ``FILM`` or ``DIGITS``.
        geometry: of its clips.
        trials: with as many known clips each.
    """

    name: str
    geometry: ClipGeometry
    trials: tuple[Trial, ...]


def measure() -> dict[str, Any]:
    """All figures: rows of shares (0..1, rounded down to parts per million), and what it took.

    A row has the subject, its geometry, the method, how many clips are known in each trial, trials and other clips of
    each; ``found``, shares of the orders; ``values``, share of the values of other clips that are decrypted right, both
    with the least of all trials; ``exact``, trials in which all are; ``psnr`` in dB, None where all trials are exact;
    ``unread``, share of values that are right before anything is done; and under ``control`` what the same estimates
    give of clips under another key.
    """
    started = time.process_time()
    rows = [measure_method(subject, method) for subject in _subjects() for method in ENCRYPTIONS]
    return {"rows": rows, "processor_seconds": round(time.process_time() - started)}


def write() -> dict[str, Any]:
    """Measure, and put the figures into their file."""
    results = measure()
    write_json(PATH, results)
    return results


def read() -> dict[str, Any] | None:
    """The figures of the file; None where it is not there."""
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else None


def measure_method(subject: Subject, method: Method) -> dict[str, Any]:
    """A row of :func:`measure`."""
    key, other = (method.keyed(experiment_key(number), subject.geometry) for number in (_KEY, _OTHER_KEY))
    found = [break_known(method, trial.known, key.encrypt(trial.known), subject.geometry) for trial in subject.trials]
    first = subject.trials[0]
    return {
        "subject": subject.name,
        "geometry": str(subject.geometry),
        "method": method.name,
        "known": len(first.known),
        "trials": len(found),
        "others": len(first.others),
        **_opened(subject, found, key),
        "unread": _floor(_mean(_right(key.encrypt(trial.others), trial.others) for trial in subject.trials)),
        "control": _opened(subject, found, other),
    }


def found_shares(found: Encryption, truth: Encryption) -> dict[str, float]:
    """Share of every order that was found, 0..1, by its name; orders that a method leaves as they are do not count.

    LE: ``halves``, which half went where, and ``reversed``, which halves are reversed.
    """
    if isinstance(found, LearnableEncryption) and isinstance(truth, LearnableEncryption):
        return {
            "halves": _same(found.order, truth.order),
            "reversed": _same(found.reversed_halves, truth.reversed_halves),
        }
    if isinstance(found, Shuffle) and isinstance(truth, Shuffle):
        pairs = {
            "K1": (found.orders.cube_order, truth.orders.cube_order),
            "K2": (found.orders.pixel_order, truth.orders.pixel_order),
        }
        return {name: _same(*pair) for name, pair in pairs.items() if (pair[1] != np.arange(len(pair[1]))).any()}
    raise TypeError(f"expected two encryptions of one kind, received {type(found)} and {type(truth)}")


def _subjects() -> Iterator[Subject]:
    first, second = np.split(real_clips(_FILM_GEOMETRY), 2)
    in_turn = Trial(known=first, others=second), Trial(known=second, others=first)
    yield Subject(name=FILM, geometry=_FILM_GEOMETRY, trials=in_turn)
    clips = dataset.held_out().clips
    for count in (1, 4):
        trials = (
            Trial(known=clips[first : first + count], others=clips[-_DIGIT_TRIALS:]) for first in range(_DIGIT_TRIALS)
        )
        yield Subject(name=DIGITS, geometry=dataset.GEOMETRY, trials=tuple(trials))


def _opened(subject: Subject, found: list[Encryption], key: Encryption) -> dict[str, Any]:
    """What the estimates of all trials are worth under a key."""
    shares = [found_shares(estimate, key) for estimate in found]
    pairs = [
        (estimate.decrypt(key.encrypt(trial.others)), trial.others)
        for estimate, trial in zip(found, subject.trials, strict=True)
    ]
    right = [_right(*pair) for pair in pairs]
    return {
        "found": {name: _mean_and_least([share[name] for share in shares]) for name in shares[0]},
        "values": _mean_and_least(right),
        "exact": sum(share == 1.0 for share in right),
        "psnr": _psnr(_mean(_squared_error(*pair) for pair in pairs)),
    }


def _same(found: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    return float((found == truth).mean())


def _right(opened: Clips, plain: Clips) -> float:
    return _same(opened, plain)


def _squared_error(opened: Clips, plain: Clips) -> float:
    return float(np.square(opened.astype(np.float64) - plain).mean())


def _psnr(squared_error: float) -> float | None:
    return round(10 * math.log10(255**2 / squared_error), 1) if squared_error else None


def _mean_and_least(shares: list[float]) -> dict[str, float]:
    return {"mean": _floor(_mean(shares)), "least": _floor(min(shares))}


def _mean(shares: Iterable[float]) -> float:
    return float(np.mean(list(shares)))


def _floor(share: float) -> float:
    """What is not all stays below 1."""
    return math.floor(share * _PARTS_PER_MILLION) / _PARTS_PER_MILLION
