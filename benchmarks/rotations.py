"""Changing the key of an artifact: the delta against an export, a whole artifact against copying it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench import Bench
from tables import number, paragraph, table

TITLE = "Rotating the key"

_MAX_PAIRS = 10
"""Pairs that are enough: what is compared differs many times over."""

_ROWS = {
    "rotate_delta_over_export": ("a delta over an export without parity, each a process of its own", "≤ 0.02"),
    "rotate_delta_over_export_in_one_process": ("the same within one process", ""),
    "rotate_over_copy_and_hash": ("a whole artifact over copying and hashing it", "≤ 2"),
}


def measure(bench: Bench) -> dict[str, Any]:
    from rotation import measure_rotation

    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        artifact, scratch = Path(folder) / "artifact", Path(folder) / "scratch"
        shutil.copytree(bench.artifact, artifact, ignore=shutil.ignore_patterns("engines"))
        scratch.mkdir()
        pairs = min(bench.pairs, _MAX_PAIRS)
        figures: dict[str, Any] = measure_rotation(bench.checkpoint, artifact, bench.key_file, scratch, pairs)
    return figures


def section(figures: dict[str, Any]) -> str:
    ratios = [
        (
            title,
            f"{figures[key]['second']:.2f} s",
            f"{figures[key]['ratio']:.3f}",
            f"{figures[key]['low']:.3f} to {figures[key]['high']:.3f}",
            goal,
        )
        for key, (title, goal) in _ROWS.items()
    ]
    rows = [*ratios, ("applying a delta, at the operator", f"{figures['apply_seconds']:.2f} s", "", "", "")]
    pairs = figures["rotate_delta_over_export"]["pairs"]
    text = paragraph(
        f"{pairs} interleaved pairs. The delta has {figures['delta_bytes'] / 1e6:.1f} MB, which is the keyed tensors",
        f"and {number(figures['delta_bytes_above_keyed'] / 1024, 1)} KiB.",
    )
    return f"{text}\n\n{table(('what', 'time', 'ratio', 'quartiles', 'goal'), rows)}"
