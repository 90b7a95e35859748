"""Speed and memory of the main job on a full-size VideoMAE-B: ``make bench``.

Ratios of interleaved pairs, all in one run, written to ``docs/benchmarks.md`` and
``benchmarks/results.json``. ``--pairs 2`` gives a first impression; figures to quote need 20.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from measure import Ratio, interleaved, seconds
from models import save_checkpoint

from lcve_deploy import Client, PlainClip, SecurityKey, encrypt, export, open_session
from lcve_deploy.clips import Layout
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.samples import real_clips
from lcve_deploy.scrambling import unscrambled

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
THREADS = 2


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_export(kind: str, checkpoint: Path, work: Path) -> dict[str, float]:
    """One export in a process of its own."""
    folder = Path(tempfile.mkdtemp(dir=work))
    command = [sys.executable, str(HERE / "exporting.py"), kind, str(checkpoint), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    if kind == "bare":
        shutil.copytree(folder, work / "bare", dirs_exist_ok=True)
    shutil.rmtree(folder)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_export(checkpoint: Path, weights: int, work: Path, pairs: int) -> dict[str, Any]:
    ours, bare = [], []
    for pair in range(pairs):
        say(f"  export {pair + 1}/{pairs}")
        bare.append(run_export("bare", checkpoint, work))
        ours.append(run_export("ours", checkpoint, work))
    base = run_export("idle", checkpoint, work)["peak_bytes"]
    ratios = [o["seconds"] / b["seconds"] for o, b in zip(ours, bare, strict=True)]
    peak = max(o["peak_bytes"] for o in ours)
    return {
        "export_over_bare": median(ratios),
        "export_seconds": median(o["seconds"] for o in ours),
        "bare_seconds": median(b["seconds"] for b in bare),
        "base_bytes": base,
        "peak_bytes": peak,
        "peak_over_weights_above_base": (peak - base) / weights,
        "bare_peak_over_weights_above_base": (max(b["peak_bytes"] for b in bare) - base) / weights,
        "pairs": pairs,
    }


def plain_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure_inference(artifact: Path, client: Client, work: Path, pairs: int) -> dict[str, Ratio]:
    """The scrambled graph against the same graph without a key, and against a plain torch export."""
    clip = real_clips(client.settings.binding.geometry)[:1]
    encrypted = client.encrypt(PlainClip(values=clip))
    scrambled = open_session(artifact / "server", threads=THREADS)
    same = plain_session(work / "plain.onnx")
    cubes = client.settings.binding.geometry.to_cubes(clip, np)
    traced = plain_session(work / "bare/model.onnx")
    name = traced.get_inputs()[0].name
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = ((clip / 255 - mean) / std).astype(np.float32).transpose(0, 4, 1, 2, 3).copy()

    def ours() -> object:
        return scrambled.run(encrypted)

    say("  scrambled graph against the plain graph of this exporter")
    against_same = interleaved(lambda: same.run(None, {"clips": cubes}), ours, pairs=pairs)
    say("  scrambled graph against a plain torch.onnx.export")
    against_traced = interleaved(lambda: traced.run(None, {name: normalised}), ours, pairs=pairs)
    return {"scrambled_over_plain": against_same, "scrambled_over_traced": against_traced}


def measure_encryption(client: Client, pairs: int) -> dict[str, Ratio]:
    """Encrypting one clip against copying its bytes; NumPy's indexing uses one thread."""
    clip = real_clips(client.settings.binding.geometry)[:1]
    plain = PlainClip(values=clip)
    ratios = {}
    for layout in Layout:
        ratios[f"encrypt_{layout}_over_copy"] = interleaved(
            clip.copy, lambda layout=layout: encrypt(plain, client.orders, layout=layout), pairs=10 * pairs, warm_up=5
        )
    target = np.empty_like(clip)
    ratios["encrypt_cubes_over_copy_in_place"] = interleaved(
        lambda: np.copyto(target, clip), lambda: encrypt(plain, client.orders), pairs=10 * pairs, warm_up=5
    )
    return ratios


def measure_opening(artifact: Path, client: Client, times: int) -> dict[str, float]:
    encrypted = client.encrypt(PlainClip(values=real_clips(client.settings.binding.geometry)[:1]))
    opening, answering = [], []
    for _ in range(times):
        started = time.perf_counter()
        session = open_session(artifact / "server", threads=THREADS)
        opened = time.perf_counter()
        session.run(encrypted)
        opening.append(opened - started)
        answering.append(time.perf_counter() - opened)
    return {"open_seconds": median(opening), "first_answer_seconds": median(answering), "times": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        say("making a VideoMAE-B with random weights")
        checkpoint = work / "videomae.pth"
        weights = save_checkpoint(checkpoint)
        key = SecurityKey.create()
        say("exporting it, with parity")
        whole = seconds(lambda: export(checkpoint, work / "artifact", key=key))
        client = Client.open(work / "artifact/client", key)
        write_onnx(unscrambled(load_checkpoint(checkpoint).model), work / "plain.onnx", layout=Layout.CUBES)
        say("export without parity against a bare torch.onnx.export")
        exporting = measure_export(checkpoint, weights, work, pairs)
        say("inference")
        inference = measure_inference(work / "artifact", client, work, pairs)
        say("encryption")
        encryption = measure_encryption(client, pairs)
        opening = measure_opening(work / "artifact", client, 5)
    results = {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("numpy", "onnxruntime", "onnx-ir", "torch")},
        "pairs": pairs,
        "weights_bytes": weights,
        "export_with_parity_seconds": whole,
        "export": exporting,
        **{name: asdict(ratio) for name, ratio in {**inference, **encryption}.items()},
        "encryption_over_inference": encryption["encrypt_cubes_over_copy"].second
        / inference["scrambled_over_plain"].second,
        "opening": opening,
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    from report import write_report

    write_report(results, ROOT / "docs/benchmarks.md")
    say(f"figures: {ROOT / 'docs/benchmarks.md'}")


if __name__ == "__main__":
    main()
