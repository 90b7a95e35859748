"""Everything that this project wants to know of a GPU, in one command:

    python -m benchmarks.gpu

Figures go to ``benchmarks/results/gpu.json`` after every one of them, and from there to ``docs/evidence/gpu.md``.
Figures of an earlier run that this one does not measure are kept; ``--resume`` measures only what is missing.
``--device cpu --sizes tiny --output FOLDER`` runs it on a CPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import date
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.bench import Bench
from benchmarks.common.contestants import FAILURES, reason
from benchmarks.common.files import DOCS, RESULTS, ROOT
from benchmarks.common.flops import clip_flops
from benchmarks.common.measure import interleaved, seconds
from benchmarks.common.models import SIZES, TINY
from benchmarks.common.processes import say
from benchmarks.common.products import matmul_peak
from benchmarks.common.stamp import versions
from benchmarks.gpu.attention import attention_kernels
from benchmarks.gpu.backends import BACKENDS, Backend, Pair
from benchmarks.gpu.case import agreement, many_clips, reference_logits
from benchmarks.gpu.copying import copy_rates, encryption
from benchmarks.gpu.page import render
from benchmarks.gpu.service import first_runs, serving, several_keys
from benchmarks.gpu.torch_models import PlainInBf16
from lcve_deploy.artifact.digests import ENGINES
from lcve_deploy.artifact.names import KEYS
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
        self.seconds: float = given.seconds
        here = [name for name, backend in BACKENDS.items() if self.device in backend.devices]
        self.backends = given.backends.split(",") if given.backends else here


class Answers:
    """The results file and its page, written again after every figure.

    Args:
        results: JSON file; what is in it stays, unless it is measured again.
        page: page that is made from it.
        resume: measure only what the file has no figure of.
    """

    def __init__(self, results: Path, page: Path, *, resume: bool = False) -> None:
        self._results, self._page, self.resume = results, page, resume
        self.content: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}

    def begin(self, found: dict[str, Any]) -> None:
        """Note where the figures come from; to resume, it must be where the others came from."""
        before = self.content.get("stamp", found)
        changed = [name for name in found if name != "date" and before.get(name) != found[name]]
        if self.resume and changed:
            sys.exit(f"error: figures of another {', '.join(changed)} cannot be resumed\nhint: leave out --resume")
        self.content["stamp"] = found

    def size(self, name: str) -> dict[str, Any]:
        empty: dict[str, Any] = {"engines": {}, "peaks": {}, "encryption": {}, "torch_bf16": {}}
        found: dict[str, Any] = self.content.setdefault("sizes", {}).setdefault(name, empty)
        return found

    def wants(self, place: dict[str, Any], key: str) -> bool:
        """Whether a figure is to be measured."""
        found = place.get(key)
        return not self.resume or found is None or (isinstance(found, dict) and "reason" in found)

    def figure(self, place: dict[str, Any], key: str, work: Callable[..., Any], *arguments: Any) -> None:
        """Measure a figure, or take the reason why there is none, and write it."""
        if self.wants(place, key):
            place[key] = _or_reason(work, *arguments)
            self.save()

    def save(self) -> None:
        for path, text in ((self._results, json.dumps(self.content, indent=2) + "\n"), (self._page, self._text())):
            part = path.with_name(f"{path.name}.part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)

    def _text(self) -> str:
        return render(self.content)


class Sitting:
    """One model, and all that is asked of it."""

    def __init__(self, bench: Bench, questions: Questions, answers: Answers) -> None:
        self._bench, self._questions, self._answers = bench, questions, answers
        self._found = answers.size(bench.size.name)
        self._clips = many_clips(bench, max(questions.batches))
        self._flops = clip_flops(bench.transformer.config)
        self._found["gflop"] = self._flops / 1e9

    @cached_property
    def _expected(self) -> npt.NDArray[np.float64]:
        return reference_logits(self._bench, self._clips, self._questions.device)

    def ask(self) -> None:
        bench, questions, figure = self._bench, self._questions, self._answers.figure
        for batch in questions.batches:
            clips = self._clips[:batch]
            figure(self._found["encryption"], str(batch), encryption, bench, clips, questions.device, questions.pairs)
        plain = PlainInBf16(bench.size, questions.device)
        for mode in plain.MODES:
            rates = self._found["torch_bf16"].setdefault(mode, {})
            for batch in questions.batches:
                figure(rates, str(batch), plain.rate, mode, batch)
        for precision in questions.precisions:
            figure(self._found["peaks"], str(precision), matmul_peak, questions.device, precision)
            for name in questions.backends:
                self._ask_backend(name, precision)

    def _ask_backend(self, name: str, precision: Precision) -> None:
        backend, engines, key = BACKENDS[name], self._found["engines"], f"{name}-{precision}"
        row = engines.get(key, {}) if self._answers.resume else {}
        known, batches = row.get("batches", {}), self._questions.batches
        missing = [batch for batch in batches if self._answers.wants(known, str(batch))]
        if missing:
            say(f"{self._bench.size.name}: {backend.label}, {precision}")
            self._remove_engines()  # of a run that was interrupted
            kept = {batch: figures for batch, figures in known.items() if int(batch) not in missing}
            measured = {name: value for name, value in row.items() if name != "reason"}
            engines[key] = {**measured, "label": backend.label, "precision": str(precision)}
            engines[key] |= _or_reason(self._measure, backend, precision, missing, kept, engines[key])
            self._answers.save()
        self._remove_engines()

    def _remove_engines(self) -> None:
        """All of a large model's engines together would fill a disk."""
        for server in (self._bench.server, self._bench.plain_server):
            shutil.rmtree(server / ENGINES, ignore_errors=True)

    def _measure(
        self,
        backend: Backend,
        precision: Precision,
        missing: list[int],
        kept: dict[str, Any],
        row: dict[str, Any],
    ) -> dict[str, Any]:
        """Measure the batches of an engine, each into its row as soon as it is there."""
        pair = backend.open(self._bench, precision, self._questions.batches, self._questions.device)
        row |= {
            "build_seconds": pair.build_seconds,
            **agreement(self._expected, pair.ours(self._clips)()),
            "batches": kept,
        }
        for batch in missing:
            self._answers.figure(kept, str(batch), self._latency, pair, batch, precision)
        if pair.engine:
            self._answers.figure(row, "first_runs", first_runs, self._bench, pair.engine)
            self._answers.figure(row, "serving", serving, self._bench, pair.engine, self._questions.seconds)
            self._answers.figure(row, "several_keys", several_keys, self._bench, pair.engine, self._questions.device)
            self._remove_keys()
            if backend.label.startswith("ONNX Runtime"):
                arguments = (self._bench, pair.engine, self._questions.batches, self._questions.device)
                self._answers.figure(row, "attention", attention_kernels, *arguments)
        return row

    def _remove_keys(self) -> None:
        """Requests of the load name no key, so the model must have one key alone."""
        for folder in (self._bench.server / KEYS).glob("camera-*"):
            shutil.rmtree(folder)

    def _latency(self, pair: Pair, batch: int, precision: Precision) -> dict[str, Any]:
        clips, pairs = self._clips[:batch], self._questions.pairs
        ratio = interleaved(pair.plain(clips), pair.ours(clips), pairs=pairs, warm_up=_RUNS)
        best = _median_seconds(pair.resident(clips), pairs) if pair.resident else ratio.second
        rate, peak = batch / best, self._found["peaks"][str(precision)].get("rate")
        share = rate * self._flops / peak if peak else None
        where = {"device_seconds": best, "clips_per_second": rate, "resident": pair.resident is not None}
        return {**asdict(ratio), **where, "share": share}


def _median_seconds(run: Callable[[], object], times: int) -> float:
    run()
    return median(seconds(run) for _ in range(times))


def _or_reason(work: Callable[..., Any], *arguments: Any) -> Any:
    """Figures, or why there are none. Whatever a library raises ends this figure, and not the ones after it."""
    try:
        return work(*arguments)
    except FAILURES as error:
        return {"reason": reason(error)}
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {reason(error)}"}


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
    """Stop where there is no GPU."""
    if device == "cpu":
        return
    if find_gpu() is None:
        sys.exit("error: no NVIDIA GPU with its driver was found here\nhint: try the script with --device cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--sizes", default="B,L,H", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--precisions", default="fp32,bf16,fp16")
    parser.add_argument("--backends", default="", help=f"of {', '.join(BACKENDS)}; by default all for the device")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="of every load of a server")
    parser.add_argument("--output", type=Path, help="folder for gpu.json and gpu.md, in place of the repository's own")
    parser.add_argument("--resume", action="store_true", help="measure only what is missing, on the same machine")
    parser.add_argument("--work", type=Path, help="folder that keeps the exports; by default build/gpu")
    given = parser.parse_args()
    if given.device == "cpu" and given.output is None:
        parser.error("--device cpu needs --output: the repository's page is for GPUs")
    _prepare(given.device)
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
    results = (given.output or RESULTS) / "gpu.json"
    page = (given.output or DOCS) / "gpu.md"
    models = given.work or (given.output or ROOT / "build") / "gpu"
    questions, answers = Questions(given), Answers(results, page, resume=given.resume)
    answers.begin(stamp(questions.device))
    answers.figure(answers.content, "copies", copy_rates, questions.device)
    for size in questions.sizes:
        say(f"{size.name}: exporting, or taking the export of an earlier run")
        work = models / size.name
        work.mkdir(parents=True, exist_ok=True)
        Sitting(Bench(work, size=size), questions, answers).ask()
    say(f"wrote {results} and {page}")


if __name__ == "__main__":
    main()
