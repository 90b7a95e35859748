"""Key rotation of a full-size VideoMAE-B: the delta against an export, a whole artifact against copying it.

    python benchmarks/rotation.py CHECKPOINT ARTIFACT KEY_FILE [--pairs 20]

ARTIFACT was exported from CHECKPOINT with the key. Everything that is timed ends on the disk, with the
digests of its files taken. The export is without parity. Export and delta each have a process of their
own, whose start is not timed; in one process, where libraries are loaded and memory is warm, both are
quicker, and the export gains more.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from measure import Ratio, interleaved, ratio, seconds

from lcve_deploy import Client, SecurityKey, apply_delta, rotate, rotate_delta
from lcve_deploy.artifact import Probe, record_files
from lcve_deploy.artifact.delta import DELTA, read_delta
from lcve_deploy.files.writing import new_folder
from lcve_deploy.model.parity import CONTROLS, ParityReport

HERE = Path(__file__).resolve().parent
CALL = "import sys; sys.path.insert(0, sys.argv[1]); import rotation; rotation.call(*sys.argv[2:])"


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
    command = [sys.executable, "-c", CALL, str(HERE), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.artifact.resolve().parent) as folder:
        figures = measure_rotation(given.checkpoint, given.artifact, given.key, Path(folder), given.pairs)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
