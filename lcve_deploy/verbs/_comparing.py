"""Compare logits on encrypted clips with a reference's logits on the plain clips, and run the negative controls."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.cipher.clips import encrypt
from lcve_deploy.cipher.coefficients import as_clips
from lcve_deploy.client import Client
from lcve_deploy.clips import EncryptedClip, Layout, PlainClip, Scheme
from lcve_deploy.encrypted_model import EncryptedModel
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.parity import CONTROL_MARGIN, CONTROLS, ParityReport, compare, max_difference
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.samples import noise_clip, real_clips, textured_clips
from lcve_deploy.video import read_clips

if TYPE_CHECKING:
    from lcve_deploy.exporters.reference.builtin import Reference

__all__ = ["Clips", "comparison_clips", "measure_parity"]

Clips = npt.NDArray[np.uint8]
Case = tuple[Clips, npt.NDArray[np.floating]]
"""A plain clip ``[1, T, H, W, C]``, and the logits of the reference for what the model sees of it."""


def comparison_clips(
    client: Client, paths: Sequence[str | os.PathLike[str]], *, thorough: bool = False, noise: Clips | None = None
) -> Clips:
    """Return plain clips to compare on: the given videos, or built-in real clips and noise.

    Args:
        client: states the geometry, and how videos are read.
        paths: videos.
        thorough: two real clips instead of one, without videos.
        noise: noise to compare on, ``[clips, T, H, W, C]``; by default always the same.

    Returns:
        uint8 ``[clips, T, H, W, C]``.

    Raises:
        VideoError: a video cannot be read.
    """
    geometry = client.settings.binding.geometry
    if not paths:
        real = real_clips(geometry)
        return np.concatenate([real if thorough else real[:1], noise_clip(geometry) if noise is None else noise])
    videos = [read_clips(Path(path), client.settings.preprocess, geometry) for path in paths]
    return np.concatenate([video.clip.values for video in videos])


def measure_parity(
    session: EncryptedModel,
    reference: Reference,
    client: Client,
    clips: Clips,
    *,
    tolerance: float | None = None,
    margin: float = CONTROL_MARGIN,
    thorough: bool = False,
    progress: Progress = silent,
) -> ParityReport:
    """Compare a session with a reference on the same clips, and measure the four negative controls.

    Args:
        session: model that takes encrypted clips.
        reference: plain model.
        client: encrypts the clips and restores the order of the logits.
        clips: plain clips, uint8 ``[clips, T, H, W, C]``.
        tolerance: largest ``|Δlogit|`` that counts as equal; by default 1e-4 · max(1, logit scale).
        margin: multiple of the tolerance that the difference of every control must exceed.
        thorough: measure the controls on textured clips only, and not on the first clip before them.
        progress: receives every evaluation of a model.
    """
    total = 2 * len(clips) + len(CONTROLS) + int(thorough)
    with step(progress, "comparing with the plain model") as steps:
        models = _Models(session=session, reference=reference, client=client, steps=steps, total=total)
        expected, received = [], []
        for clip in clips:
            encrypted = client.encrypt(PlainClip(values=clip[None]))
            expected.append(models.expected(models.seen(clip[None], encrypted))[0])
            received.append(models.received(encrypted)[0])
        report = compare(
            np.stack(expected),
            np.stack(received),
            reference=reference.name,
            tolerance=tolerance,
            margin=margin,
            has_classes=client.settings.answer.kind.has_labels,
        )
        first = None if thorough else (clips[:1], expected[0][None])
        return dataclasses.replace(report, controls=_controls(models, first, report.control_minimum))


@dataclass(frozen=True, kw_only=True)
class _Models:
    """The two models that are compared. Every evaluation is a step of the progress."""

    session: EncryptedModel
    reference: Reference
    client: Client
    steps: Callable[[int, int], None]
    total: int
    numbers: Iterator[int] = field(default_factory=partial(itertools.count, 1))

    def seen(self, clip: Clips, encrypted: EncryptedClip | None = None) -> npt.NDArray[Any]:
        """Return what a plain clip is for the model: of a lossy scheme, what its encryption decrypts to."""
        if self.client.orders.scheme is not Scheme.DCT:
            return clip
        values: npt.NDArray[np.float64] = self.client.decrypt(
            encrypted or self.client.encrypt(PlainClip(values=clip))
        ).values
        return values

    def expected(self, clip: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
        """Run a plain clip in the reference."""
        return self._count(self.reference.logits(clip))

    def received(self, clip: EncryptedClip) -> npt.NDArray[np.floating]:
        """Run an encrypted clip in the session, and put its logits into the plain order."""
        return self._count(self.client.plain_order(self.session.run(clip)))

    def _count(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        done = next(self.numbers)
        self.steps(done, max(self.total, done + 1))
        return logits


def _controls(models: _Models, first: Case | None, minimum: float) -> dict[str, float]:
    """Measure the largest ``|Δlogit|`` of each negative control, on the first case and then on textured clips.

    A control that exceeds the minimum is not repeated. With few logits, a control can agree with the reference by
    chance on one clip, but not on all; a control that has no effect agrees on every clip.
    """
    gaps: dict[str, float] = dict.fromkeys(CONTROLS, 0.0)
    for clip, expected in _control_cases(models, first):
        for name in [name for name, gap in gaps.items() if not gap > minimum]:
            gaps[name] = max(gaps[name], max_difference(expected, _run_control(name, models, clip)))
        if min(gaps.values()) > minimum:
            break
    return gaps


def _control_cases(models: _Models, first: Case | None) -> Iterator[Case]:
    """Yield clips with the reference's logits; those of the textured clips are computed when they are needed."""
    if first is not None:
        yield first
    for clip in textured_clips(models.client.orders.geometry):
        yield clip, models.expected(models.seen(clip))


def _run_control(name: str, models: _Models, clip: Clips) -> npt.NDArray[np.floating]:
    """Run a negative control on one plain clip."""
    orders, binding = models.client.orders, models.client.settings.binding
    plain = PlainClip(values=clip)
    if name == "encrypted_into_plain":
        return models.expected(_as_plain(plain, orders))
    values = encrypt(plain, _WRONG_ORDERS[name](orders), layout=binding.layout).values
    return models.received(EncryptedClip(values=values, binding=binding))


def _as_plain(plain: PlainClip, orders: Orders) -> npt.NDArray[Any]:
    """Return an encryption as a plain model would take it: as a clip."""
    if orders.scheme is Scheme.DCT:
        return as_clips(encrypt(plain, orders).values, orders.geometry)
    values: Clips = encrypt(plain, orders, layout=Layout.VIDEO).values
    return values


def _orders_of_random_key(orders: Orders) -> Orders:
    return derive_orders(SecurityKey.create(), salt=orders.salt, geometry=orders.geometry, scheme=orders.scheme)


def _with_identity(orders: Orders, *, cubes: bool = False, values: bool = False) -> Orders:
    return dataclasses.replace(
        orders,
        cube_order=np.arange(orders.geometry.cubes) if cubes else orders.cube_order,
        pixel_order=np.arange(orders.geometry.values) if values else orders.pixel_order,
        signs=None if orders.signs is None else np.ones_like(orders.signs) if values else orders.signs,
    )


_WRONG_ORDERS: Final[Mapping[str, Callable[[Orders], Orders]]] = {
    "wrong_key": _orders_of_random_key,
    "plain_into_scrambled": lambda orders: _with_identity(orders, cubes=True, values=True),
    "cubes_without_pixels": lambda orders: _with_identity(orders, values=True),
}
"""Orders that a control encrypts with, in place of the artifact's own."""
