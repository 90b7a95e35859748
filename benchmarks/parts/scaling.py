"""Latency with the batch, the length of the clip and the size of the model, beside a plain torch.onnx.export."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.contestants import onnxruntime_session
from benchmarks.common.flops import clip_flops
from benchmarks.common.measure import PAUSE, interleaved
from benchmarks.common.models import BASE, SIZES, Size, save_checkpoint, videomae
from benchmarks.common.plain import bank_of, export_plain, normalised
from benchmarks.common.processes import say
from benchmarks.common.tables import interval, number, paragraph, table
from lcve_deploy import derive_orders
from lcve_deploy.artifact.names import INPUT
from lcve_deploy.cipher.weights import scramble
from lcve_deploy.clips import Layout
from lcve_deploy.exporters.bank import keyed_tensors
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.samples import real_clips

TITLE = "Scaling"

BATCHES = (1, 2, 4)
FRAMES = (8, 16, 32)
MODELS = ("VideoMAE-S", "VideoMAE-B", "VideoMAE-L")
_TITLES = {"batch": "clips in a batch", "frames": "frames of a clip", "model": "model"}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A scrambled graph and a plain export of the same model, in ONNX Runtime; both take a batch size."""

    ours: Callable[[int], object]
    plain: Callable[[int], object]
    flops: int


def measure(bench: Bench) -> dict[str, Any]:
    with _pair(bench, BASE) as pair:
        batches = {str(batch): _row(pair, bench, batch) for batch in BATCHES}
    known = {BASE: batches["1"]}
    frames = {str(count): _single(bench, dataclasses.replace(BASE, frames=count), known) for count in FRAMES}
    models = {name: _single(bench, SIZES[name], known) for name in MODELS}
    return {"pairs": bench.few, "threads": THREADS, "batch": batches, "frames": frames, "model": models}


def _single(bench: Bench, size: Size, known: dict[Size, dict[str, float]]) -> dict[str, float]:
    """The row of one clip; that of a model that was measured before is the same row."""
    if size in known:
        return known[size]
    with _pair(bench, size) as pair:
        return _row(pair, bench, 1)


def _row(pair: Pair, bench: Bench, batch: int) -> dict[str, float]:
    """Seconds and ratio for one clip of a batch."""
    result = asdict(interleaved(lambda: pair.plain(batch), lambda: pair.ours(batch), pairs=bench.few, pause=PAUSE))
    first, second = result["first"] / batch, result["second"] / batch
    return {**result, "first": first, "second": second, "gflop": pair.flops / 1e9}


@contextmanager
def _pair(bench: Bench, size: Size) -> Iterator[Pair]:
    say(f"  {size.name}, {size.frames} frames")
    folder = bench.work / "scaling"
    (folder / "plain").mkdir(parents=True)
    try:
        save_checkpoint(size, folder / "model.pth")
        model = load_checkpoint(folder / "model.pth", size.options).model
        geometry = model.config.geometry
        scrambled = scramble(model, derive_orders(bench.key, salt=bytes(16), geometry=geometry))
        write_onnx(scrambled, folder / "model.onnx", layout=Layout.CUBES)
        export_plain(videomae(size), size, folder / "plain/model.onnx")
        ours, plain = onnxruntime_session(folder / "model.onnx"), onnxruntime_session(folder / "plain/model.onnx")
        clip, name, keyed = real_clips(geometry)[:1], plain.get_inputs()[0].name, keyed_tensors(scrambled)
        cubes = np.repeat(geometry.to_cubes(clip, np), max(BATCHES), axis=0)
        floats = np.repeat(normalised(clip), max(BATCHES), axis=0)
        yield Pair(
            ours=lambda batch: ours.run(None, {INPUT: cubes[:batch], **bank_of(keyed, batch)}),
            plain=lambda batch: plain.run(None, {name: floats[:batch]}),
            flops=clip_flops(model.config),
        )
    finally:
        shutil.rmtree(folder)


def section(figures: dict[str, Any]) -> str:
    rows = [
        (
            f"{_TITLES[axis]}: {value}",
            f"{r['gflop']:.0f}",
            _latency(r["second"]),
            _latency(r["first"]),
            number(r["ratio"]),
            interval(r, 3),
        )
        for axis in _TITLES
        for value, r in figures[axis].items()
    ]
    head = ("what varies", "GFLOP a clip", "this package, a clip", "torch.onnx.export, a clip", "ratio", "quartiles")
    text = paragraph(
        "The scrambled graph and a plain torch.onnx.export of the same model, both in ONNX Runtime in float32 with",
        f"{figures['threads']} threads; {figures['pairs']} interleaved pairs. Otherwise the model is VideoMAE-B with",
        "one clip of 16×224×224.",
    )
    return f"{text}\n\n{table(head, rows)}"


def _latency(seconds: float) -> str:
    return f"{number(seconds, 2)} s"
