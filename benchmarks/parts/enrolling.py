"""Changing the key of an artifact: the delta against an export, a whole artifact against copying it.

Everything that is timed ends on the disk, with the digests of its files taken. The export is without parity. Export
and delta each have a process of their own, whose start is not timed; in one process, where libraries are loaded and
memory is warm, both are quicker, and the export gains more.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from benchmarks.common.measure import Ratio, interleaved, ratio, seconds
from benchmarks.common.processes import figures_of
from benchmarks.common.tables import number, paragraph, table
from lcve_deploy import Client, SecurityKey, apply_delta, rotate, rotate_delta
from lcve_deploy.artifact import Probe, record_files
from lcve_deploy.artifact.delta import DELTA, read_delta
from lcve_deploy.files.writing import new_folder
from lcve_deploy.model.parity import CONTROLS, ParityReport

if TYPE_CHECKING:  # it loads torch, whose import counts in the processes that are timed
    from benchmarks.common.bench import Bench

TITLE = "Rotating the key"

_MAX_PAIRS = 10
"""Pairs that are enough: what is compared differs many times over."""

_ROWS = {
    "rotate_delta_over_export": ("a delta over an export without parity, each in a separate process", "≤ 0.02"),
    "rotate_delta_over_export_in_one_process": ("the same within one process", ""),
    "rotate_over_copy_and_hash": ("a whole artifact over copying and hashing it", "≤ 2"),
}


def measure(bench: Bench) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        artifact, scratch = Path(folder) / "artifact", Path(folder) / "scratch"
        shutil.copytree(bench.artifact, artifact, ignore=shutil.ignore_patterns("engines"))
        scratch.mkdir()
        pairs = min(bench.pairs, _MAX_PAIRS)
        return measure_rotation(bench.checkpoint, artifact, bench.key_file, scratch, pairs)


def export_without_parity(checkpoint: Path, output: Path, key: SecurityKey) -> None:
    """The export as it is, files digested and on the disk, but for what compares: reference, session, probe."""
    from lcve_deploy.verbs import export as verb

    report = ParityReport(
        reference="none",
        clips=0,
        tolerance=0.0,
        max_difference=0.0,
        mean_difference=0.0,
        logit_scale=0.0,
        top1_agreement=0.0,
        top5_agreement=0.0,
        controls=dict.fromkeys(CONTROLS, 1.0),
    )

    def unasked(client: Client, _: object) -> Probe:
        binding = client.settings.binding
        clip = np.zeros((2, *binding.layout.shape(binding.geometry)), np.uint8)
        return Probe(clip=clip, logits=np.zeros((2, len(client.settings.classes))))

    with (
        mock.patch.object(verb, "comparison_clips"),
        mock.patch.object(verb, "reference_for"),
        mock.patch.object(verb, "OnnxRuntimeSession"),
        mock.patch.object(verb, "measure_parity", return_value=report),
        mock.patch.object(verb, "_probe", unasked),
        mock.patch.object(verb, "probe_session"),
    ):
        verb.export(checkpoint, output, key=key)


def call(kind: str, source: str, key_file: str, output: str) -> None:
    """One export or delta in a process of its own; prints its time."""
    import lcve_deploy.verbs.export
    import lcve_deploy.verbs.rotate  # noqa: F401  (our own modules are loaded, libraries are not)

    key = SecurityKey.read(key_file)
    work = {
        "export": lambda: export_without_parity(Path(source), Path(output), key),
        "delta": lambda: rotate_delta(source, output, key=key),
    }[kind]
    print(json.dumps({"seconds": seconds(work)}))


def in_a_process(*arguments: object) -> float:
    return float(figures_of("parts.rotations", *arguments)["seconds"])


def measure_delta(checkpoint: Path, artifact: Path, key_file: Path, scratch: Path, pairs: int) -> Ratio:
    """Delta over export without parity, each in a process of its own."""
    exports, deltas = [], []
    for _ in range(pairs):
        exports.append(in_a_process("export", checkpoint, key_file, scratch / "artifact"))
        empty(scratch)()
        deltas.append(in_a_process("delta", artifact, key_file, scratch / "delta"))
        empty(scratch)()
    return ratio(exports, deltas)


def copy_and_hash(artifact: Path, output: Path) -> None:
    with new_folder(output) as stage:
        for side in ("server", "client"):
            shutil.copytree(artifact / side, stage / side)
        record_files(stage)


def empty(folder: Path) -> Callable[[], None]:
    def work() -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    return work


def measure_rotation(checkpoint: Path, artifact: Path, key_file: Path, work: Path, pairs: int) -> dict[str, Any]:
    """Ratios of interleaved pairs; ``work`` is an empty folder on the disk of the artifact."""
    key, out, scratch = SecurityKey.read(key_file), work / "out", work / "scratch"
    scratch.mkdir()
    cold = measure_delta(checkpoint, artifact, key_file, scratch, pairs)
    warm = interleaved(
        lambda: export_without_parity(checkpoint, scratch / "artifact", key),
        lambda: rotate_delta(artifact, scratch / "delta", key=key),
        pairs=pairs,
        afterwards=empty(scratch),
    )
    whole = interleaved(
        lambda: copy_and_hash(artifact, scratch / "copy"),
        lambda: rotate(artifact, scratch / "whole", key=key),
        pairs=pairs,
        afterwards=empty(scratch),
    )
    rotate_delta(artifact, out, key=key)
    applying = seconds(lambda: apply_delta(artifact / "server", out / DELTA, scratch / "server"))
    keyed = sum(tensor.nbytes for tensor in read_delta(out / DELTA).tensors.values())
    size = (out / DELTA).stat().st_size
    empty(work)()
    return {
        "rotate_delta_over_export": asdict(cold),
        "rotate_delta_over_export_in_one_process": asdict(warm),
        "rotate_over_copy_and_hash": asdict(whole),
        "apply_seconds": applying,
        "delta_bytes": size,
        "delta_bytes_above_keyed": size - keyed,
    }


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
        f"{pairs} interleaved pairs. The delta has {figures['delta_bytes'] / 1e6:.1f} MB: the keyed tensors and",
        f"{number(figures['delta_bytes_above_keyed'] / 1024, 1)} KiB.",
    )
    return f"{text}\n\n{table(('what', 'time', 'ratio', 'quartiles', 'goal'), rows)}"


if __name__ == "__main__":
    call(*sys.argv[1:])
