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
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.common.cases import Case
from benchmarks.common.measure import Turns, seconds
from benchmarks.common.processes import figures_of, say
from benchmarks.common.summary import Figures, Row, row
from benchmarks.common.tables import SPREAD, paragraph, spread, table
from benchmarks.records import Measured

if TYPE_CHECKING:  # it loads torch, which would count as memory of every export
    from benchmarks.common.bench import Bench

TITLE = "Exporting"

_KINDS_IN_TURN = ("inference", "bare", "ours", "checked", "compared")
_INFERENCES = 8
"""Inferences that the checks may take, together with a bare torch.onnx.export."""

CASES = (
    Case(name="rounds", rounds=1, rehearsed=False),
    Case(name="thorough", processes=1, rounds=1, compares=False, rehearsed=False),
)
_ROWS = {
    "checked_over_goal": (f"export with all checks over {_INFERENCES} inferences and a bare torch.onnx.export", "≤ 1"),
    "checked_over_compared": ("export with all checks over torch.onnx.export and one comparison", "≤ 2"),
    "checks_over_inference": ("the checks alone, in inferences of ONNX Runtime", ""),
    "ours_over_bare": ("export without checks over a bare torch.onnx.export", "≤ 2"),
}


def measure(bench: Bench, case: str, turns: Turns) -> dict[str, Any]:
    """Every kind in turn, or the one that takes minutes; ``idle`` is the memory of a process that does nothing."""
    kinds = ("idle", *(turns.order(_KINDS_IN_TURN, 0) if case == "rounds" else ["thorough"]))
    runs = {}
    for kind in kinds:
        say(f"  {kind}")
        runs[kind] = _export(kind, bench)
    peaks = {kind: run["peak_bytes"] for kind, run in runs.items()}
    times = {kind: run["seconds"] for kind, run in runs.items()}
    return {"seconds": times, "peaks": peaks, "weights_bytes": bench.checkpoint.stat().st_size}


def ratios(found: Sequence[Figures]) -> dict[str, Row]:
    """Join the rounds: each process is one, and each of its times a process of its own."""
    rows: dict[str, list[dict[str, list[float]]]] = {name: [] for name in _ROWS}
    for one in found:
        times = one["seconds"]
        goal = _INFERENCES * times["inference"] + times["bare"]
        for name, (first, second) in {
            "checked_over_goal": (goal, times["checked"]),
            "checked_over_compared": (times["compared"], times["checked"]),
            "checks_over_inference": (times["inference"], times["checked"] - times["ours"]),
            "ours_over_bare": (times["bare"], times["ours"]),
        }.items():
            rows[name].append({"first": [first], name: [second]})
    return {name: row(name, pairs) for name, pairs in rows.items()}


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


def section(here: Measured, _: Sequence[Measured]) -> str:
    found = here.cases["rounds"]["found"]
    everything = [*found, *here.cases.get("thorough", {}).get("found", ())]
    base, weights = min(one["peaks"]["idle"] for one in everything), found[0]["weights_bytes"]
    ratio_rows = [(_ROWS[name][0], *spread(asdict(joined)), _ROWS[name][1]) for name, joined in ratios(found).items()]
    rows = [
        (name, f"{median(times):.1f} s", f"{(max(peaks) - base) / weights:.2f}")
        for kind, name in _NAMES.items()
        if (times := [one["seconds"][kind] for one in everything if kind in one["seconds"]])
        and (peaks := [one["peaks"][kind] for one in everything if kind in one["peaks"]])
    ]
    text = paragraph(
        f"{len(found)} rounds in which all kinds take turns, each in a separate process, and one thorough export;",
        f"{weights / 1e6:.0f} MB of weights. Memory is the peak of the whole process minus that of a process that only",
        f"imports the libraries (the base, {base / 1e6:.0f} MB). The checks are the comparison with the plain model,",
        "the four controls and the probe; see [parity](../reference/parity.md).",
    )
    head = ("what", "time", "peak memory above the base, over the weights")
    return f"{text}\n\n{table(('what', *SPREAD, 'goal'), ratio_rows)}\n\n{table(head, rows)}"


_NAMES = {
    "ours": "export without checks",
    "checked": "export with all checks",
    "thorough": "export with all checks, `--thorough`",
    "bare": "bare torch.onnx.export",
    "compared": "torch.onnx.export and one comparison with ONNX Runtime",
}


if __name__ == "__main__":
    run_export(*sys.argv[1:])
