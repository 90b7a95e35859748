"""Everything that this project wants to know of a GPU, in one command:

    python -m benchmarks.gpu

Figures go to ``benchmarks/results/gpu.json`` after every engine, and from there to ``docs/evidence/gpu.md``. Figures
of an earlier run that this one does not measure are kept. ``--device cpu --sizes tiny --output FOLDER`` runs it on a
CPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common.bench import Bench
from benchmarks.common.contestants import FAILURES, reason
from benchmarks.common.files import DOCS, RESULTS
from benchmarks.common.flops import clip_flops
from benchmarks.common.measure import interleaved, seconds
from benchmarks.common.models import SIZES, TINY
from benchmarks.common.processes import say
from benchmarks.common.products import matmul_peak
from benchmarks.common.stamp import versions
from benchmarks.gpu.backends import BACKENDS, Backend, Pair, Run, refit_against_rebuild
from benchmarks.gpu.case import agreement, many_clips, reference_logits
from benchmarks.gpu.copying import copy_rates, encryption
from benchmarks.gpu.page import render
from benchmarks.gpu.torch_models import plain_in_bf16
from lcve_deploy.artifact.digests import ENGINES
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.cpu import cpu_name

NAMES = {name[-1]: size for name, size in SIZES.items()} | {"tiny": TINY}
_PACKAGES = ("numpy", "torch", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "cupy-cuda12x", "cupy-cuda13x")
_TENSORRTS = ("tensorrt", "tensorrt_rtx")
_RUNS = 3


class Questions:
    """What is asked, and of whom."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.device: str = given.device
        self.sizes = [NAMES[name] for name in given.sizes.split(",")]
        self.batches = tuple(int(batch) for batch in given.batches.split(","))
        self.precisions = [Precision(name) for name in given.precisions.split(",")]
        self.pairs: int = given.pairs
        here = [name for name, backend in BACKENDS.items() if self.device in backend.devices]
        self.backends = given.backends.split(",") if given.backends else here


class Answers:
    """The results file and its page."""

    def __init__(self, results: Path, page: Path) -> None:
        self._results, self._page = results, page
        self.content: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}

    def size(self, name: str) -> dict[str, Any]:
        empty: dict[str, Any] = {"engines": {}, "peaks": {}, "refits": {}}
        found: dict[str, Any] = self.content.setdefault("sizes", {}).setdefault(name, empty)
        return found

    def save(self) -> None:
        self._results.write_text(json.dumps(self.content, indent=2) + "\n")
        self._page.write_text(render(self.content), encoding="utf-8")


class Sitting:
    """One model, and all that is asked of it."""

    def __init__(self, bench: Bench, questions: Questions, answers: Answers) -> None:
        self._bench, self._questions, self._answers = bench, questions, answers
        self._found = answers.size(bench.size.name)
        self._clips = many_clips(bench, max(questions.batches))
        self._expected = reference_logits(bench, self._clips, questions.device)
        self._flops = clip_flops(bench.transformer.config)

    def ask(self) -> None:
        bench, questions = self._bench, self._questions
        self._found["gflop"] = self._flops / 1e9
        self._found["encryption"] = {
            str(batch): _or_reason(encryption, bench, self._clips[:batch], questions.device, questions.pairs)
            for batch in questions.batches
        }
        self._found["torch_bf16"] = _or_reason(plain_in_bf16, bench.size, questions.batches, questions.device)
        for precision in questions.precisions:
            self._found["peaks"][str(precision)] = _or_reason(matmul_peak, questions.device, precision)
            for name in questions.backends:
                self._ask_backend(name, precision)
                self._answers.save()
                self._remove_engines()

    def _ask_backend(self, name: str, precision: Precision) -> None:
        backend = BACKENDS[name]
        say(f"{self._bench.size.name}: {backend.label}, {precision}")
        self._remove_engines()  # of a run that was interrupted
        figures = _or_reason(self._measure, backend, precision)
        self._found["engines"][f"{name}-{precision}"] = {
            "label": backend.label,
            "precision": str(precision),
            **figures,
        }
        if backend.kind and "batches" in figures and name not in self._found["refits"]:
            self._found["refits"][name] = _or_reason(
                refit_against_rebuild, self._bench, backend.kind, precision, self._questions.batches
            )

    def _remove_engines(self) -> None:
        """All of a large model's engines together would fill a disk."""
        for server in (self._bench.server, self._bench.plain_server):
            shutil.rmtree(server / ENGINES, ignore_errors=True)

    def _measure(self, backend: Backend, precision: Precision) -> dict[str, Any]:
        pair = backend.open(self._bench, precision, self._questions.batches, self._questions.device)
        answered = agreement(self._expected, pair.ours(self._clips)())
        batches = {str(batch): self._latency(pair, batch, precision) for batch in self._questions.batches}
        return {"build_seconds": pair.build_seconds, **answered, "batches": batches}

    def _latency(self, pair: Pair, batch: int, precision: Precision) -> dict[str, Any]:
        clips, pairs = self._clips[:batch], self._questions.pairs
        ratio = interleaved(pair.plain(clips), pair.ours(clips), pairs=pairs, warm_up=_RUNS)
        best = _median_seconds(pair.resident(clips), pairs) if pair.resident else ratio.second
        rate, peak = batch / best, self._found["peaks"][str(precision)].get("rate")
        share = rate * self._flops / peak if peak else None
        return {**asdict(ratio), "device_seconds": best, "clips_per_second": rate, "share": share}


def _median_seconds(run: Run, times: int) -> float:
    run()
    return median(seconds(run) for _ in range(times))


def _or_reason(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Figures, or why there are none."""
    try:
        return work(*arguments)
    except FAILURES as error:
        return {"reason": reason(error)}


def stamp(device: str) -> dict[str, Any]:
    found = versions(_PACKAGES)
    for name in _TENSORRTS:
        with suppress(ImportError):
            found[name] = str(__import__(name).__version__)
    card = str(find_gpu()) if device == "cuda" else cpu_name()
    return {"date": date.today().isoformat(), "card": card, "driver": _driver(), "versions": found}


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def _prepare(device: str) -> None:
    """Stop where there is no GPU; let ONNX Runtime find the CUDA libraries of Python packages."""
    if device == "cpu":
        return
    if find_gpu() is None:
        sys.exit("error: no NVIDIA GPU with its driver was found here\nhint: try the script with --device cpu")
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--sizes", default="B,L,H", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--precisions", default="fp32,bf16,fp16")
    parser.add_argument("--backends", default="", help=f"of {', '.join(BACKENDS)}; by default all for the device")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--output", type=Path, help="folder for gpu.json and gpu.md, in place of the repository's own")
    given = parser.parse_args()
    if given.device == "cpu" and given.output is None:
        parser.error("--device cpu needs --output: the repository's page is for GPUs")
    _prepare(given.device)
    results = (given.output or RESULTS) / "gpu.json"
    page = (given.output or DOCS) / "gpu.md"
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = Questions(given), Answers(results, page)
        answers.content["stamp"] = stamp(questions.device)
        answers.content["copies"] = _or_reason(copy_rates, questions.device)
        for size in questions.sizes:
            say(f"{size.name}: exporting")
            work = Path(folder) / size.name
            work.mkdir()
            Sitting(Bench(work, pairs=questions.pairs, size=size), questions, answers).ask()
            shutil.rmtree(work)
    say(f"wrote {results} and {page}")


if __name__ == "__main__":
    main()
