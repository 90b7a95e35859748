"""What every attacker recovers of one subject, under this scheme and under the strongest exact variant."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.variants.bases import agreement, find_basis
from benchmarks.variants.basis import rebased, run_blocks, secret_basis
from benchmarks.variants.subjects import Subject
from benchmarks.variants.tokens import (
    invert_tokens,
    lay_out_tokens,
    match_table,
    slow_components,
    sort_tokens,
    sorted_right,
)
from benchmarks.variants.weaker import hide_in_kernel, remove_noise, rotate_values, undo_rotation
from lcve_deploy.attacks.clips import match_known
from lcve_deploy.attacks.embedding import lay_out_filters
from lcve_deploy.attacks.holdings import Estimate, Holdings, Order
from lcve_deploy.attacks.jigsaw import solve_jigsaw
from lcve_deploy.attacks.planted.cases import encrypted, scrambled
from lcve_deploy.attacks.positions import lay_out_positions, match_sinusoid
from lcve_deploy.attacks.reference import match_keys, match_reference
from lcve_deploy.attacks.score import Space, align_order, score_order
from lcve_deploy.attacks.value_order import lay_out_texture

Array = npt.NDArray[np.float64]

CLIPS = (1, 4, 16)
EXACT_ON = 4
KNOWN, SHOWN = 0, 20
_PIXELS = 8
NOISE = 64.0
"""Deviation of the hidden noise along each of its directions, grey levels."""


def psnr(found: Array, true: npt.NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio of clips with values 0..255; dB."""
    error = float(((np.clip(found, 0, 255) - true) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def this_scheme(subject: Subject, reference: Subject | None, rng: np.random.Generator) -> dict[str, Any]:
    """Return shares of K1 and K2 that are right, by attacker."""
    trial = _Shuffled(subject, rng)
    figures: dict[str, Any] = {
        "artifact": trial.shares(trial.from_artifact(), symmetric=True),
        "ciphertexts": {str(count): trial.shares(trial.from_ciphertexts(count), symmetric=True) for count in CLIPS},
        "known": trial.shares(trial.from_known(), symmetric=False),
        "linked": trial.linked(rng),
    }
    if reference is not None:
        figures["reference"] = trial.shares(trial.from_reference(reference), symmetric=False)
    return figures


def strongest(
    subject: Subject, reference: Subject | None, rng: np.random.Generator
) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    """Return what the same attackers recover if tokens are sent in a secret basis and in fresh orders.

    Returns:
        Figures, and what is seen of the last clip from ciphertexts alone, uint8 RGB ``[H, 2 · W, 3]``: left its cubes
        in their mean colours, right the components that were found.
    """
    width = subject.positions.shape[1]
    basis, other = secret_basis(width, rng), secret_basis(width, rng)
    artifacts = [[rebased(block, secret, rng) for block in subject.blocks] for secret in (basis, other)]
    plain = subject.tokens(subject.clips)
    orders = np.stack([rng.permutation(plain.shape[1]) for _ in plain])
    sent = np.take_along_axis(plain @ basis, orders[..., None], axis=1)
    exact = run_blocks(artifacts[0], sent[:EXACT_ON]) - run_blocks(subject.blocks, plain[:EXACT_ON]) @ basis
    found, tokens = _ciphertexts(subject, sent, orders)
    figures = {
        "exact": float(np.abs(exact).max()),
        "bytes": 4 * sent[0].size / subject.clips[0].size,
        "linked": agreement(find_basis(*artifacts), basis.T @ other),
        "ciphertexts": found,
    }
    if reference is not None:
        figures["reference"] = agreement(find_basis(reference.blocks, artifacts[0]), basis)
    return figures, _picture(subject, tokens)


def weaker(subject: Subject, rng: np.random.Generator) -> dict[str, float]:
    """Return what undoes a secret rotation of values, and noise that the embedding does not see."""
    known, shown = (subject.clips[clip].astype(np.float64) for clip in (KNOWN, SHOWN))
    count, values = known.shape
    rotation, order = np.linalg.qr(rng.standard_normal((values, values)))[0], rng.permutation(count)
    found, placed = undo_rotation(known, rotate_values(known, rotation, order))
    opened = np.empty_like(shown)
    opened[placed] = rotate_values(shown, rotation, order) @ found.T
    noisy = hide_in_kernel(shown, subject.raw_embedding, NOISE, rng)
    return {
        "rotation_known": psnr(opened, shown),
        "noise_seen": psnr(noisy, shown),
        "noise_removed": psnr(remove_noise(noisy, subject.embedding.shape[1]), shown),
    }


def _ciphertexts(subject: Subject, sent: Array, orders: Order) -> tuple[dict[str, Any], Array]:
    """Sort tokens of a few clips and of all, lay them out, and look at them; then with one known clip.

    Returns:
        Figures, and the tokens of all clips in the order that was found.
    """
    figures: dict[str, Any] = {}
    for count in CLIPS[1:]:
        few = np.linspace(0, len(sent) - 1, count).astype(int)
        figures[f"sorted_{count}"] = sorted_right(sort_tokens(sent[few]).classes, orders[few])
    found = sort_tokens(sent)
    position = np.empty_like(orders[0])
    position[found.classes[0]] = orders[0]
    space = Space(grid=subject.geometry.grid, symmetric=True)
    laid = match_table(found, subject.positions) if subject.sinusoid else lay_out_tokens(found, subject.geometry.grid)
    cells = align_order(laid, position, space)
    tokens = found.tokens[:, np.argsort(cells)]
    every = tokens.reshape(-1, tokens.shape[2]), subject.clips.reshape(-1, subject.geometry.values).astype(float)
    figures |= {
        "sorted": sorted_right(found.classes, orders),
        "laid_out": score_order(laid, position, space).exact,
        "colours": colours_seen(subject.clips, tokens, space.grid),
        "known": psnr(_opened(subject, found.tokens, laid), subject.clips[SHOWN]),
        "ceiling": psnr(invert_tokens(tokens[SHOWN], every), subject.clips[SHOWN]),
    }
    return figures, tokens


def colours_seen(clips: npt.NDArray[np.uint8], tokens: Array, grid: tuple[int, ...]) -> float:
    """Share of what changes in the colours of cubes that three components show, 0..1.

    Args:
        clips: plain, in cubes of RGB values ``[clips, N, L]``.
        tokens: of the clips, in the plain order, ``[clips, N, D]``.
        grid: of the cubes.
    """
    seen = slow_components(tokens - tokens.mean(axis=0), grid).reshape(-1, 3)
    colours = clips.reshape(*clips.shape[:2], -1, 3).mean(axis=2)
    changes = (colours - colours.mean(axis=0)).reshape(-1, 3)
    rest = changes - seen @ np.linalg.lstsq(seen, changes, rcond=None)[0]
    return float(1 - (rest**2).sum() / (changes**2).sum())


def _picture(subject: Subject, tokens: Array) -> npt.NDArray[np.uint8]:
    seen = slow_components(tokens - tokens.mean(axis=0), subject.geometry.grid)[-1]
    low, high = np.percentile(seen, [2, 98], axis=0)
    colours = subject.clips[-1].reshape(subject.geometry.cubes, -1, 3).mean(axis=1) / 255
    halves = [
        np.clip(half, 0, 1).reshape(*subject.geometry.grid, 3)[0] for half in (colours, (seen - low) / (high - low))
    ]
    large = np.hstack(halves).repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)
    return np.round(255 * large).astype(np.uint8)


def _opened(subject: Subject, tokens: Array, laid: Order) -> Array:
    """Open a clip with a known one: the layout is turned until the map fits cubes that it was not learned from."""
    known, space = subject.clips[KNOWN].astype(np.float64), Space(grid=subject.geometry.grid, symmetric=True)
    turned = (
        np.argsort(np.ravel_multi_index(tuple(s.applied(space.coordinates(laid), space.grid).T), (*space.grid, 1)))
        for s in space.symmetries()
    )

    def misfit(order: Order) -> float:
        rows = tokens[KNOWN][order]
        return float(((invert_tokens(rows[1::2], (rows[::2], known[::2])) - known[1::2]) ** 2).mean())

    order = min(turned, key=misfit)
    return invert_tokens(tokens[SHOWN][order], (tokens[KNOWN][order], known))


class _Shuffled:
    """A subject under this scheme, and the attacks on it."""

    def __init__(self, subject: Subject, rng: np.random.Generator) -> None:
        geometry = subject.geometry
        self._subject = subject
        self._truth = _orders(subject, rng)
        self._cipher = encrypted(subject.clips, self._truth)
        self._holdings = Holdings(geometry=geometry, artifact=scrambled(subject.keyed, self._truth))

    def from_artifact(self) -> Estimate:
        cubes = match_sinusoid(self._holdings).cubes
        if cubes is None:
            cubes = lay_out_positions(self._holdings).cubes
        return Estimate(cubes=cubes, values=lay_out_filters(self._holdings).values)

    def from_ciphertexts(self, count: int) -> Estimate:
        few = self._cipher[np.linspace(0, len(self._cipher) - 1, count).astype(int)]
        holdings = Holdings(geometry=self._subject.geometry, ciphertexts=few)
        return solve_jigsaw(dataclasses.replace(holdings, found=lay_out_texture(holdings)))

    def from_known(self) -> Estimate:
        pair = self._subject.clips[KNOWN : KNOWN + 1], self._cipher[KNOWN : KNOWN + 1]
        return match_known(Holdings(geometry=self._subject.geometry, known=pair))

    def from_reference(self, reference: Subject) -> Estimate:
        return match_reference(dataclasses.replace(self._holdings, reference=reference.keyed))

    def linked(self, rng: np.random.Generator) -> dict[str, float]:
        """Return the shares of the entries of two keys that are linked."""
        other = _orders(self._subject, rng)
        found = match_keys(dataclasses.replace(self._holdings, other=scrambled(self._subject.keyed, other)))
        return {
            name: float((getattr(found, name) == np.argsort(other.order(name))[self._truth.order(name)]).mean())
            for name in ("cubes", "values")
        }

    def shares(self, found: Estimate, *, symmetric: bool) -> dict[str, float]:
        """Return the shares of both orders that are exactly right."""
        geometry = self._subject.geometry
        spaces = {
            "cubes": Space(grid=geometry.grid, symmetric=symmetric),
            "values": Space(grid=geometry.cube, channels=geometry.channels, symmetric=symmetric),
        }
        return {
            name: score_order(found.order(name), self._truth.order(name), space).exact for name, space in spaces.items()
        }


def _orders(subject: Subject, rng: np.random.Generator) -> Estimate:
    classes = subject.keyed["head.bias"].size
    return Estimate(
        cubes=rng.permutation(subject.geometry.cubes),
        values=rng.permutation(subject.geometry.values),
        labels=rng.permutation(classes),
    )
