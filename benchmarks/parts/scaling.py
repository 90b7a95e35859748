"""Latency with the batch, the length of the clip and the size of the model, beside a plain torch.onnx.export."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.contestants import onnxruntime_session
from benchmarks.common.flops import clip_flops
from benchmarks.common.measure import PAUSE, Turns, Work
from benchmarks.common.models import BASE, SIZES, Size, save_checkpoint, videomae
from benchmarks.common.pages import cells, heads
from benchmarks.common.plain import export_plain, normalised
from benchmarks.common.processes import say
from benchmarks.common.tables import SPREAD, number, paragraph, spread, table
from benchmarks.common.unchecked import export_without_parity
from benchmarks.records import Measured
from lcve_deploy import Client, PlainClip, SecurityKey, SessionOptions, open_session
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.samples import real_clips
from lcve_deploy.verbs.export import ExportOptions

TITLE = "Scaling"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A model, and how many clips it gets at once."""

    size: Size = BASE
    batch: int = 1


POINTS = {
    "base": Point(),
    "batch-2": Point(batch=2),
    "batch-4": Point(batch=4),
    "frames-8": Point(size=replace(BASE, frames=8)),
    "frames-32": Point(size=replace(BASE, frames=32)),
    "VideoMAE-S": Point(size=SIZES["VideoMAE-S"]),
    "VideoMAE-L": Point(size=SIZES["VideoMAE-L"]),
}
_HEAVY = {"batch-4": 2, "frames-32": 2, "VideoMAE-L": 2}
"""Rounds of cases that take long."""

CASES = tuple(Case(name=name, rounds=_HEAVY.get(name, 4)) for name in POINTS)
AXES = {
    "clips in a batch": {"1": "base", "2": "batch-2", "4": "batch-4"},
    "frames of a clip": {"8": "frames-8", "16": "base", "32": "frames-32"},
    "model": {"VideoMAE-S": "VideoMAE-S", "VideoMAE-B": "base", "VideoMAE-L": "VideoMAE-L"},
}
"""What varies, and the case of each value."""


def measure(bench: Bench, case: str, turns: Turns) -> dict[str, Any]:
    point = POINTS[case]
    folder = _files(bench, point.size)
    client = Client.open(folder / "artifact/client", SecurityKey.read(bench.key_file))
    clip = real_clips(client.settings.binding.geometry)[:1]
    works = {"plain": _plain(folder, clip, point.batch), "ours": _ours(folder, client, clip, point.batch)}
    times = turns.take(works, pause=PAUSE)
    config = load_checkpoint(folder / "model.pth", point.size.options).model.config
    return {"times": times, "gflop": clip_flops(config) / 1e9, "batch": point.batch}


def _plain(folder: Path, clip: np.ndarray[Any, Any], batch: int) -> Work:
    session = onnxruntime_session(folder / "plain.onnx")
    feed = {session.get_inputs()[0].name: np.repeat(normalised(clip), batch, axis=0)}
    return lambda: session.run(None, feed)


def _ours(folder: Path, client: Client, clip: np.ndarray[Any, Any], batch: int) -> Work:
    session = open_session(folder / "artifact/server", SessionOptions(threads=THREADS))
    one = client.encrypt(PlainClip(values=clip))
    clips = EncryptedClip(values=np.repeat(one.values, batch, axis=0), binding=one.binding)
    return lambda: session.run(clips)


def _files(bench: Bench, size: Size) -> Path:
    """Folder of the artifact and of the plain export of one model."""
    folder = bench.work / f"scaling/{size.name}-{size.frames}"
    if not folder.exists():
        say(f"  exporting {size.name}, {size.frames} frames")
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_checkpoint(size, part / "model.pth")
        key, options = SecurityKey.read(bench.key_file), ExportOptions(checkpoint=size.options)
        export_without_parity(part / "model.pth", part / "artifact", key, options)
        export_plain(videomae(size), size, part / "plain.onnx")
        part.rename(folder)
    return folder


def section(here: Measured, others: Sequence[Measured]) -> str:
    rows = [
        _row(f"{axis}: {value}", here, others, case)
        for axis, values in AXES.items()
        for value, case in values.items()
        if case in here.cases
    ]
    head = (
        *("what varies", "GFLOP a clip", "this package, a clip", "torch.onnx.export, a clip"),
        *(*SPREAD, *heads(others, list(POINTS))),
    )
    text = paragraph(
        "The session of this package and a plain torch.onnx.export of the same model, both in ONNX Runtime in float32",
        f"with {THREADS} threads; the ratio is ours over plain. Otherwise the model is VideoMAE-B with one clip of",
        "16×224×224. Cases that take long have fewer rounds.",
    )
    return f"{text}\n\n{table(head, rows)}"


def _row(title: str, here: Measured, others: Sequence[Measured], case: str) -> tuple[str, ...]:
    found, ours = here.cases[case]["found"][0], here.cases[case]["rows"]["ours"]
    seconds = (f"{number(one, 2)} s" for one in (latency(here, case, "ours"), latency(here, case, "plain")))
    return (title, f"{found['gflop']:.0f}", *seconds, *spread(ours, 3), *cells(others, list(POINTS), case, "ours"))


def latency(measured: Measured, case: str, side: str) -> float:
    """Seconds of one clip of a batch."""
    figures = measured.cases[case]
    seconds: float = figures["rows"][side]["seconds"] / figures["found"][0]["batch"]
    return seconds
