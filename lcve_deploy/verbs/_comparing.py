"""Compare logits on encrypted clips with a reference's logits on the plain clips, and run the negative controls."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lcve_deploy.cipher.clips import encrypt
from lcve_deploy.client import Client
from lcve_deploy.clips import EncryptedClip, Layout, PlainClip
from lcve_deploy.encrypted_model import EncryptedModel
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.parity import CONTROL_MARGIN, ParityReport, compare, max_difference
from lcve_deploy.progress import Progress, silent
from lcve_deploy.samples import noise_clip, real_clips, textured_clips
from lcve_deploy.video import read_clips

if TYPE_CHECKING:
    from lcve_deploy.exporters.reference.builtin import Reference

__all__ = ["Clips", "comparison_clips", "measure_parity"]

Clips = npt.NDArray[np.uint8]


def comparison_clips(client: Client, paths: Sequence[str | os.PathLike[str]]) -> Clips:
    """Return plain clips to compare on: the given videos, or built-in real clips and noise.

    Returns:
        uint8 ``[clips, T, H, W, C]``.

    Raises:
        VideoError: a video cannot be read.
    """
    geometry = client.settings.binding.geometry
    if not paths:
        return np.concatenate([real_clips(geometry), noise_clip(geometry)])
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
        progress: receives every step.
    """
    stage, steps = "comparing with the plain model", len(clips) + 2
    expected, received = [], []
    for done, clip in enumerate(clips):
        progress(stage, done, steps)
        expected.append(reference.logits(clip[None])[0])
        received.append(_run(session, client, client.encrypt(PlainClip(values=clip[None])))[0])
    progress(stage, len(clips), steps)
    report = compare(
        np.stack(expected), np.stack(received), reference=reference.name, tolerance=tolerance, margin=margin
    )
    report = dataclasses.replace(report, controls=_controls(session, reference, client, report.control_minimum))
    progress(stage, steps, steps)
    return report


def _controls(session: EncryptedModel, reference: Reference, client: Client, minimum: float) -> dict[str, float]:
    """Measure the largest ``|Δlogit|`` of each negative control on textured clips.

    Stops at the first clip after which every control exceeds the minimum. With few logits, a control can agree with
    the reference by chance on one clip, but not on all; a control that has no effect agrees on every clip.
    """
    gaps: dict[str, float] = {}
    for clip in textured_clips(client.orders.geometry):
        for name, gap in _controls_of(clip, session, reference, client).items():
            gaps[name] = max(gap, gaps.get(name, 0.0))
        if min(gaps.values()) > minimum:
            break
    return gaps


def _controls_of(clip: Clips, session: EncryptedModel, reference: Reference, client: Client) -> dict[str, float]:
    """Measure ``|Δlogit|`` of each negative control on one clip."""
    binding, orders = client.settings.binding, client.orders
    plain = PlainClip(values=clip)
    expected = reference.logits(clip)

    def scrambled_model(wrong: Orders) -> float:
        values = encrypt(plain, wrong, layout=binding.layout).values
        return max_difference(expected, _run(session, client, EncryptedClip(values=values, binding=binding)))

    as_video = encrypt(plain, orders, layout=Layout.VIDEO).values
    return {
        "wrong_key": scrambled_model(_orders_of_random_key(orders)),
        "plain_into_scrambled": scrambled_model(_with_identity(orders, cubes=True, values=True)),
        "encrypted_into_plain": max_difference(expected, reference.logits(as_video)),
        "cubes_without_pixels": scrambled_model(_with_identity(orders, values=True)),
    }


def _run(session: EncryptedModel, client: Client, clip: EncryptedClip) -> npt.NDArray[np.floating]:
    return client.plain_order(session.run(clip))


def _orders_of_random_key(orders: Orders) -> Orders:
    return derive_orders(SecurityKey.create(), salt=orders.salt, geometry=orders.geometry)


def _with_identity(orders: Orders, *, cubes: bool = False, values: bool = False) -> Orders:
    return dataclasses.replace(
        orders,
        cube_order=np.arange(orders.geometry.cubes) if cubes else orders.cube_order,
        pixel_order=np.arange(orders.geometry.values) if values else orders.pixel_order,
    )
