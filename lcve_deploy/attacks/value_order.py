"""Recover K2 from ciphertexts alone: neighbouring pixels are similar in every cube of every clip.

All cubes have the same order, so every cube is a sample of the same shuffled texture. First, the channels are separated
and their means subtracted from every cube, which leaves luminance. Its covariance is partly whitened (a power of its
eigenvalues), which makes similarity more local. Then the values of the channels are matched into pixels, and the pixels
are laid out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.colours import channel_splits
from lcve_deploy.attacks.embedding import in_one_order
from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.planted.footage import plant_footage
from lcve_deploy.attacks.solvers.assignment import assign, cosine_similarity, normalise_rows
from lcve_deploy.attacks.solvers.layout import invert_layout, neighbour_similarity
from lcve_deploy.attacks.solvers.repairing import repair_layout
from lcve_deploy.attacks.solvers.sorting import sort_layout
from lcve_deploy.geometry import ClipGeometry

__all__ = ["ciphertexts_held", "first_ciphertexts", "lay_out_texture", "plant_texture"]

Rows = npt.NDArray[Any]

_MAX_CUBES: Final = 20000
_FEW_CLIPS: Final = 16
"""The attack also runs on this many clips alone: more clips are not always better."""
_MIN_DEVIATION: Final = 2.0
_FLAT_SHARES: Final = (0.2, 0.3)
"""Cubes whose deviation is below these shares of a textured cube's are mostly noise."""
_TEXTURED_QUANTILE: Final = 0.9
_POWERS: Final = (0.5, 0.25, 0.125)
"""Powers of eigenvalues: 1/2 gives the original similarity; smaller powers a more local one with more noise."""
_MATCHES: Final = (0.5, 0.25)
_JUDGING_POWER: Final = 0.25
_SEED: Final = 0


def lay_out_texture(holdings: Holdings) -> Estimate:
    """Lay out the values of a cube so that neighbours are similar, up to flips and the order of channels."""
    clips, geometry = holdings.ciphertexts, holdings.geometry
    if clips is None or not (samples := _samples(clips)).size:
        return Estimate()
    closeness = _closeness(samples)

    def smoothness(layout: Order) -> float:
        return _smoothness(closeness, layout, geometry)

    parts = [clips, *([clips[:_FEW_CLIPS]] if len(clips) > _FEW_CLIPS else [])]
    layouts = (layout for part in parts for layout in _layouts(part, closeness, geometry, smoothness))
    return Estimate(values=invert_layout(max(layouts, key=smoothness).reshape(-1)))


def _layouts(
    clips: Cubes, closeness: Rows, geometry: ClipGeometry, smoothness: Callable[[Order], float]
) -> Iterator[Order]:
    """Yield the smoothest layout with default parameters, and the smoothest over all parameters; both repaired."""
    samples = _samples(clips)
    waves = _waves(_even(samples), _POWERS[0])
    splits = _distinct(channel_splits(_levels(clips), waves, geometry.channels))
    first = [_Light.of(samples, split, geometry, _FLAT_SHARES[0]).layout(_POWERS[0], _POWERS[0]) for split in splits]
    best = int(np.argmax([smoothness(layout) for layout in first]))
    lights = [_Light.of(samples, splits[best], geometry, flat) for flat in _FLAT_SHARES]
    others = [light.layout(match, lay) for light, match, lay in itertools.product(lights, _MATCHES, _POWERS)]
    yield _polished(closeness, first[best], geometry)
    yield _polished(closeness, max([first[best], *others], key=smoothness), geometry)


def first_ciphertexts(holdings: Holdings, count: float, rng: np.random.Generator) -> Holdings:
    """Return holdings with only the first ``count`` encrypted clips."""
    clips = holdings.ciphertexts
    return Holdings(geometry=holdings.geometry, ciphertexts=None if clips is None else clips[: int(count)])


def ciphertexts_held(holdings: Holdings) -> int:
    """Return the number of encrypted clips."""
    return 0 if holdings.ciphertexts is None else len(holdings.ciphertexts)


def plant_texture(rng: np.random.Generator) -> Planted:
    """Return a few clips of real footage."""
    return plant_footage(CONTROL_GEOMETRY, 8, rng)


def _samples(clips: Cubes) -> Rows:
    """Return a random sample of textured cubes of all clips, minus their means, float32 ``[samples, L]``."""
    cubes = clips.reshape(-1, clips.shape[-1])
    drawn = np.random.default_rng(_SEED).permutation(len(cubes))[:_MAX_CUBES]
    samples = cubes[drawn].astype(np.float32)
    samples -= samples.mean(axis=1, keepdims=True)
    return samples[_textured(samples, _FLAT_SHARES[0])]


def _textured(samples: Rows, flat: float) -> Order:
    """Return the indices of samples that are not flat compared with the others."""
    deviation = samples.std(axis=1)
    least = (
        max(flat * float(np.quantile(deviation, _TEXTURED_QUANTILE)), _MIN_DEVIATION)
        if len(deviation)
        else _MIN_DEVIATION
    )
    return np.flatnonzero(deviation > least)


def _levels(clips: Cubes) -> Rows:
    """Return the mean of each value over the flatter half of the cubes of each clip, ``[L, clips]``: mostly colour."""
    deviation = clips.std(axis=2)
    flatter = (deviation <= np.median(deviation, axis=1, keepdims=True))[..., None]
    means = (clips * flatter).sum(axis=1) / flatter.sum(axis=1)
    levels: Rows = means.T - means.mean(axis=1)
    return levels


def _even(samples: Rows) -> Rows:
    """Scale cubes to about the same deviation; cubes that are mostly noise stay weak."""
    even: Rows = samples / (samples.std(axis=1, keepdims=True) + _MIN_DEVIATION)
    return even


def _waves(samples: Rows, power: float) -> Rows:
    """Return the principal components of the values over all samples, ``[L, L]``, in ascending order of variance."""
    variances, vectors = _components(samples)
    waves: Rows = vectors * variances**power
    return waves


def _components(samples: Rows) -> tuple[Rows, Rows]:
    """Return ascending variances and principal directions of the values over all samples."""
    variances, vectors = np.linalg.eigh((samples.T @ samples / max(len(samples), 1)).astype(np.float64))
    return np.maximum(variances, 0), vectors


def _distinct(splits: Iterable[Order]) -> list[Order]:
    return list({split.tobytes(): split for split in splits}.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Light:
    """Principal components of the luminance of all samples, for an assumed channel of each value."""

    geometry: ClipGeometry
    split: Order
    variances: Rows
    vectors: Rows

    @classmethod
    def of(cls, samples: Rows, split: Order, geometry: ClipGeometry, flat: float) -> Self:
        light = _light(samples, split, geometry.channels, flat)
        variances, vectors = _components(light)
        return cls(geometry=geometry, split=split, variances=variances, vectors=vectors)

    def layout(self, match: float, lay: float) -> Order:
        """Return the value at each position, ``[pixels, channels]``, with these powers for matching and layout."""
        pixels = _pixels(self._rows(match), self.split, self.geometry.channels)
        judged = normalise_rows(self._rows(_JUDGING_POWER)[pixels].sum(axis=1))
        rows = normalise_rows(self._rows(lay)[pixels].sum(axis=1))
        cube, similarity = self.geometry.cube, cosine_similarity(judged, judged)
        layout = repair_layout(similarity, sort_layout(rows, cube), cube)
        columns = in_one_order(layout.reshape(cube[0], -1).T, judged, cube[1:])
        through_time = repair_layout(similarity, columns.T.reshape(-1), cube)
        best = max(layout, through_time, key=lambda tried: neighbour_similarity(similarity, tried, cube))
        values: Order = pixels[best]
        return values

    def _rows(self, power: float) -> Rows:
        return normalise_rows(self.vectors * self.variances**power)


def _polished(closeness: Rows, layout: Order, geometry: ClipGeometry) -> Order:
    """Repair every channel separately, as values may have been matched into wrong pixels."""
    channels = [
        channel[repair_layout(closeness[np.ix_(channel, channel)], np.arange(len(channel)), geometry.cube)]
        for channel in layout.T
    ]
    return np.stack(channels, axis=1)


def _closeness(samples: Rows) -> Rows:
    """Return the local similarity of all values, regardless of channels, ``[L, L]``."""
    rows = normalise_rows(_waves(_even(samples), _JUDGING_POWER))
    closeness: Rows = rows @ rows.T
    return closeness


def _smoothness(closeness: Rows, layout: Order, geometry: ClipGeometry) -> float:
    """Return the smoothness of the reordered cubes within channels; comparable between assumptions on channels."""
    return float(np.mean([neighbour_similarity(closeness, channel, geometry.cube) for channel in layout.T]))


def _light(samples: Rows, split: Order, channels: int, flat: float) -> Rows:
    light = samples.copy()
    for channel in range(channels):
        light[:, split == channel] -= light[:, split == channel].mean(axis=1, keepdims=True)
    return _even(light[_textured(light, flat)])


def _pixels(rows: Rows, split: Order, channels: int) -> Order:
    """Match values into pixels, ``[pixels, channels]``."""
    first, *others = (np.flatnonzero(split == channel) for channel in range(channels))
    return np.stack([first, *(other[assign(rows[first] @ rows[other].T)] for other in others)], axis=1)
