"""Exporting against a bare torch.onnx.export: time, and memory over the size of the weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench import Bench, say
from tables import paragraph, table

TITLE = "Exporting"

_SCRIPT = Path(__file__).with_name("exporting.py")


def measure(bench: Bench) -> dict[str, Any]:
    ours, bare = [], []
    for pair in range(bench.few):
        say(f"  export {pair + 1}/{bench.few}")
        bare.append(_export("bare", bench))
        ours.append(_export("ours", bench))
    base, weights = _export("idle", bench)["peak_bytes"], bench.checkpoint.stat().st_size
    peaks = {name: max(run["peak_bytes"] for run in runs) for name, runs in (("ours", ours), ("bare", bare))}
    return {
        "pairs": bench.few,
        "ratio": median(o["seconds"] / b["seconds"] for o, b in zip(ours, bare, strict=True)),
        "seconds": median(o["seconds"] for o in ours),
        "bare_seconds": median(b["seconds"] for b in bare),
        "with_parity_seconds": bench.export_seconds,
        "weights_bytes": weights,
        "base_bytes": base,
        "peak_over_weights": (peaks["ours"] - base) / weights,
        "bare_peak_over_weights": (peaks["bare"] - base) / weights,
    }


def _export(kind: str, bench: Bench) -> dict[str, float]:
    """One export in a process of its own."""
    folder = Path(tempfile.mkdtemp(dir=bench.work))
    command = [sys.executable, str(_SCRIPT), kind, str(bench.checkpoint), str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    shutil.rmtree(folder)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def section(figures: dict[str, Any]) -> str:
    rows = [
        ("export without parity over a bare torch.onnx.export", f"{figures['ratio']:.2f}", "≤ 2"),
        ("peak memory of the export above the base, over the weights", f"{figures['peak_over_weights']:.2f}", "≤ 4"),
        ("the same of the bare torch.onnx.export", f"{figures['bare_peak_over_weights']:.2f}", ""),
        ("export without parity", f"{figures['seconds']:.1f} s", ""),
        ("bare torch.onnx.export", f"{figures['bare_seconds']:.1f} s", ""),
        ("export with parity on three clips", f"{figures['with_parity_seconds']:.0f} s", ""),
    ]
    text = paragraph(
        f"{figures['pairs']} interleaved pairs, each export in a separate process;",
        f"{figures['weights_bytes'] / 1e6:.0f} MB of weights. Memory is the peak of the whole process minus that of",
        f"a process that only imports the libraries (the base, {figures['base_bytes'] / 1e6:.0f} MB).",
    )
    return f"{text}\n\n{table(('what', 'seen', 'goal'), rows)}"
