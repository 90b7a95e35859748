"""Exporting with and without its checks, against torch.onnx.export: time, and memory over the size of the weights.

Each run is a process of its own, and all kinds take turns: ``bare`` is torch.onnx.export alone, ``compared`` the same
with one comparison of its graph, ``ours`` this package's graph alone, ``checked`` the whole export with parity,
controls and probe, ``inference`` one clip in ONNX Runtime. ``thorough`` is the whole export in float64, and ``idle``
imports what exporting needs and does nothing. Times begin with the checkpoint file or the module in memory and exclude
imports; the peak memory is the whole process's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.common.measure import seconds
from benchmarks.common.processes import figures_of, say
from benchmarks.common.tables import paragraph, table

if TYPE_CHECKING:  # it loads torch, which would count as memory of every export
    from benchmarks.common.bench import Bench

TITLE = "Exporting"


_TURNS = ("inference", "bare", "ours", "checked", "compared")
_INFERENCES = 8
"""Inferences that the checks may take, together with a bare torch.onnx.export."""


def measure(bench: Bench) -> dict[str, Any]:
    rounds = []
    for turn in range(bench.few):
        say(f"  exports, round {turn + 1}/{bench.few}")
        first = turn % len(_TURNS)
        rounds.append({kind: _export(kind, bench) for kind in _TURNS[first:] + _TURNS[:first]})
    say("  the thorough export, once")
    thorough, idle = _export("thorough", bench), _export("idle", bench)
    weights, base = bench.checkpoint.stat().st_size, idle["peak_bytes"]
    times = [{kind: run["seconds"] for kind, run in runs.items()} for runs in rounds]
    peaks = {kind: max(runs[kind]["peak_bytes"] for runs in rounds) for kind in _TURNS}
    peaks["thorough"] = thorough["peak_bytes"]
    return {
        "pairs": bench.few,
        "ratios": {
            "ours_over_bare": median(t["ours"] / t["bare"] for t in times),
            "checked_over_goal": median(t["checked"] / (_INFERENCES * t["inference"] + t["bare"]) for t in times),
            "checked_over_compared": median(t["checked"] / t["compared"] for t in times),
            "checks_in_inferences": median((t["checked"] - t["ours"]) / t["inference"] for t in times),
        },
        "seconds": {kind: median(t[kind] for t in times) for kind in _TURNS} | {"thorough": thorough["seconds"]},
        "weights_bytes": weights,
        "base_bytes": base,
        "peak_over_weights": {kind: (peak - base) / weights for kind, peak in peaks.items()},
    }


def _export(kind: str, bench: Bench) -> dict[str, float]:
    """One run in a process of its own."""
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        return figures_of("parts.exports", kind, bench.server if kind == "inference" else bench.checkpoint, folder)


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


def compared(_: Path, folder: Path) -> float:
    import numpy as np
    import onnxruntime
    import torch

    from benchmarks.common.models import BASE, videomae
    from benchmarks.common.plain import export_plain

    module, path = videomae(BASE), folder / "model.onnx"

    def export() -> None:
        export_plain(module, BASE, path)
        clip = torch.randn(1, 3, BASE.frames, BASE.pixels, BASE.pixels)
        with torch.inference_mode():
            expected = module(clip).numpy()
        session = onnxruntime.InferenceSession(path)
        (received,) = session.run(None, {session.get_inputs()[0].name: clip.numpy()})
        np.testing.assert_allclose(received, expected, atol=1e-4)

    return seconds(export)


def checked(checkpoint: Path, folder: Path, *, is_thorough: bool = False) -> float:
    from benchmarks.common.models import BASE
    from lcve_deploy import SecurityKey
    from lcve_deploy.verbs.export import ExportOptions, export

    key, options = SecurityKey.create(), ExportOptions(checkpoint=BASE.options, thorough=is_thorough)
    return seconds(lambda: export(checkpoint, folder / "artifact", key=key, options=options))


def thorough(checkpoint: Path, folder: Path) -> float:
    return checked(checkpoint, folder, is_thorough=True)


def inference(server: Path, _: Path) -> float:
    from lcve_deploy import open_session
    from lcve_deploy.artifact import find_keys, open_key, read_manifest
    from lcve_deploy.clips import EncryptedClip

    session, (folder,) = open_session(server), find_keys(server).values()
    key = open_key(folder, read_manifest(server))
    clip = EncryptedClip(values=key.probe().clip[:1], binding=key.manifest.binding)
    session.run(clip)
    return median(seconds(lambda: session.run(clip)) for _ in range(3))


def idle(_: Path, __: Path) -> float:
    import onnx_ir  # noqa: F401
    import torch  # noqa: F401

    import lcve_deploy.verbs.export  # noqa: F401

    return 0.0


_KINDS: dict[str, Callable[[Path, Path], float]] = {
    "bare": bare,
    "checked": checked,
    "compared": compared,
    "idle": idle,
    "inference": inference,
    "ours": ours,
    "thorough": thorough,
}


def peak_bytes() -> int:
    """Peak resident memory of this process (Linux); ``ru_maxrss`` would count the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run_export(kind: str, checkpoint: str, folder: str) -> None:
    """One run in this process; prints its time and the peak memory."""
    took = _KINDS[kind](Path(checkpoint), Path(folder))
    print(json.dumps({"seconds": took, "peak_bytes": peak_bytes()}))


def section(figures: dict[str, Any]) -> str:
    ratios, peaks, times = figures["ratios"], figures["peak_over_weights"], figures["seconds"]
    ratio_rows = [
        (
            f"export with all checks over {_INFERENCES} inferences and a bare torch.onnx.export",
            f"{ratios['checked_over_goal']:.2f}",
            "≤ 1",
        ),
        (
            "export with all checks over torch.onnx.export and one comparison",
            f"{ratios['checked_over_compared']:.2f}",
            "≤ 2",
        ),
        ("the checks alone, in inferences of ONNX Runtime", f"{ratios['checks_in_inferences']:.1f}", ""),
        ("export without checks over a bare torch.onnx.export", f"{ratios['ours_over_bare']:.2f}", "≤ 2"),
    ]
    rows = [(_NAMES[kind], f"{times[kind]:.1f} s", f"{peaks[kind]:.2f}") for kind in _NAMES]
    text = paragraph(
        f"{figures['pairs']} rounds in which all kinds take turns, each in a separate process, one thorough export;",
        f"{figures['weights_bytes'] / 1e6:.0f} MB of weights. Memory is the peak of the whole process minus that of",
        f"a process that only imports the libraries (the base, {figures['base_bytes'] / 1e6:.0f} MB). The checks are",
        "the comparison with the plain model, the four controls and the probe; see [parity](../reference/parity.md).",
        figures.get("note", ""),
    )
    head = ("what", "time", "peak memory above the base, over the weights")
    return f"{text}\n\n{table(('ratio', 'seen', 'goal'), ratio_rows)}\n\n{table(head, rows)}"


_NAMES = {
    "ours": "export without checks",
    "checked": "export with all checks",
    "thorough": "export with all checks, `--thorough`",
    "bare": "bare torch.onnx.export",
    "compared": "torch.onnx.export and one comparison with ONNX Runtime",
}


if __name__ == "__main__":
    run_export(*sys.argv[1:])
