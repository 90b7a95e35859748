"""Exporting against a bare torch.onnx.export: time, and memory over the size of the weights.

Each export is a process of its own: ``ours``, ``bare`` for torch.onnx.export alone, or ``idle``, which imports what
exporting needs and does nothing. The time is that of the export alone, from the checkpoint or the module in memory to
the finished file; the peak memory is the whole process's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.common.measure import seconds
from benchmarks.common.processes import figures_of, say
from benchmarks.common.tables import paragraph, table

if TYPE_CHECKING:  # it loads torch, which would count as memory of every export
    from benchmarks.common.bench import Bench

TITLE = "Exporting"


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
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        return figures_of("parts.exports", kind, bench.checkpoint, folder)


def ours(checkpoint: Path, folder: Path) -> float:
    from lcve_deploy import SecurityKey, derive_orders
    from lcve_deploy.cipher.weights import scramble
    from lcve_deploy.clips import Layout
    from lcve_deploy.exporters.checkpoints import load_checkpoint
    from lcve_deploy.exporters.onnx import write_onnx

    key, salt = SecurityKey.create(), bytes(16)

    def export() -> None:
        model = load_checkpoint(checkpoint).model
        orders = derive_orders(key, salt=salt, geometry=model.config.geometry, classes=model.config.classes)
        write_onnx(scramble(model, orders), folder / "model.onnx", layout=Layout.CUBES)

    return seconds(export)


def bare(_: Path, folder: Path) -> float:
    from benchmarks.common.models import BASE, videomae
    from benchmarks.common.plain import export_plain

    module = videomae(BASE)
    return seconds(lambda: export_plain(module, BASE, folder / "model.onnx"))


def idle(_: Path, __: Path) -> float:
    import onnx_ir  # noqa: F401
    import torch  # noqa: F401

    import lcve_deploy.verbs.export  # noqa: F401

    return 0.0


def peak_bytes() -> int:
    """Peak resident memory of this process (Linux); ``ru_maxrss`` would count the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run_export(kind: str, checkpoint: str, folder: str) -> None:
    """One export in this process; prints its time and the peak memory."""
    took = {"ours": ours, "bare": bare, "idle": idle}[kind](Path(checkpoint), Path(folder))
    print(json.dumps({"seconds": took, "peak_bytes": peak_bytes()}))


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


if __name__ == "__main__":
    run_export(*sys.argv[1:])
