"""Attention in the forms that runtimes run it: time and peak memory, each run in a process of its own.

    python -m benchmarks.attention --rounds 5

Needs 10 GB of memory and about ten minutes on two cores. It writes ``benchmarks/results/attention.json``, and from it
``docs/evidence/attention.md``; ``--only-page`` measures nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.common.bench import THREADS
from benchmarks.common.files import DOCS, RESULTS
from benchmarks.common.load import clock, others
from benchmarks.common.measure import seconds
from benchmarks.common.models import BASE, SIZES, Size, save_checkpoint
from benchmarks.common.processes import figures_of, say
from benchmarks.common.stamp import machine, stamp
from benchmarks.common.tables import paragraph, table
from lcve_deploy.artifact.names import INPUT
from lcve_deploy.cipher.weights import unscrambled
from lcve_deploy.clips import Layout
from lcve_deploy.exporters.bank import keyed_tensors
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.embedding import embed_key
from lcve_deploy.exporters.graph import attention
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.runtime.backends.attention import fuse_attention
from lcve_deploy.samples import real_clips

FIGURES = RESULTS / "attention.json"
PAGE = DOCS / "attention.md"

_LONG = replace(SIZES["VideoMAE-L"], name="two blocks of VideoMAE-L", depth=2, frames=64, pixels=256)
_NO_LIMIT = 2**40
_WHOLE, _BLOCKS = "whole", "blocks"
_TIMED_RUNS = 2


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to run attention.

    Args:
        key: in the results.
        label: on the page.
        graph: ``whole``, or ``blocks`` of queries.
        runtime: key of ``_RUNTIMES``.
    """

    key: str
    label: str
    graph: str
    runtime: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, a number of clips, and the forms that are compared; all against the first."""

    key: str
    label: str
    size: Size
    batch: int
    forms: tuple[Form, ...]


_STANDARD = Form(
    key="standard", label="ONNX Runtime, standard operators, all queries at once", graph=_WHOLE, runtime="onnxruntime"
)
_IN_BLOCKS = Form(
    key="blocks", label="ONNX Runtime, standard operators, blocks of queries", graph=_BLOCKS, runtime="onnxruntime"
)
_SESSION = Form(key="session", label="a session of this package on ONNX Runtime", graph=_BLOCKS, runtime="session")
_OPENVINO = Form(key="openvino", label="OpenVINO, all queries at once", graph=_WHOLE, runtime="openvino")
_OPENVINO_BLOCKS = Form(key="openvino-blocks", label="OpenVINO, blocks of queries", graph=_BLOCKS, runtime="openvino")

_SHORT_FORMS = (_STANDARD, _SESSION, _OPENVINO)
CASES = (
    Case(key="one", label="VideoMAE-B, one clip, 1568 tokens", size=BASE, batch=1, forms=_SHORT_FORMS),
    Case(key="four", label="VideoMAE-B, a batch of four clips", size=BASE, batch=4, forms=_SHORT_FORMS),
    Case(
        key="long",
        label="two blocks of VideoMAE-L, one clip of 64×256×256, 8192 tokens",
        size=_LONG,
        batch=1,
        forms=(_STANDARD, _IN_BLOCKS, _SESSION, _OPENVINO, _OPENVINO_BLOCKS),
    ),
)

Run = Callable[[Any], object]


# One process


def run_once(graph: Path, runtime: str, batch: int) -> dict[str, float]:
    """Return the median seconds of a run, and the peak resident memory of this process (Linux)."""
    run = _RUNTIMES[runtime](graph)
    clips = np.repeat(np.load(graph.parent.parent / "clip.npy"), batch, axis=0)
    run(clips)
    times = [seconds(lambda: run(clips)) for _ in range(_TIMED_RUNS)]
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {"seconds": median(times), "peak_bytes": int(found[1]) * 1024 if found else 0}


def _in_onnxruntime(graph: Path, *, fused: bool = False) -> Run:
    """Open a graph with ONNX Runtime's own settings, or as a session of this package does."""
    from lcve_deploy.libraries.onnxruntime import give_files, load_onnxruntime

    onnxruntime = load_onnxruntime("this benchmark")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.enable_mem_pattern = THREADS, not fused
    files = {path.name: np.memmap(path, np.uint8, "r") for path in graph.parent.iterdir() if path != graph}
    give_files(settings, files)
    content = graph.read_bytes()
    session = onnxruntime.InferenceSession(
        fuse_attention(content) if fused else content, settings, providers=["CPUExecutionProvider"]
    )
    files.clear()  # they were needed until here
    return lambda clips: session.run(None, {INPUT: clips})


def _in_openvino(graph: Path) -> Run:
    import openvino

    wanted = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(THREADS)}
    request = openvino.Core().compile_model(graph, "CPU", wanted).create_infer_request()
    return lambda clips: request.infer({0: clips})


_RUNTIMES: Mapping[str, Callable[[Path], Run]] = {
    "onnxruntime": _in_onnxruntime,
    "session": lambda graph: _in_onnxruntime(graph, fused=True),
    "openvino": _in_openvino,
}


# All of them


def measure(work: Path, rounds: int) -> dict[str, Any]:
    for size in {case.size.name: case.size for case in CASES}.values():
        _write_graphs(work / size.name, size)
    results: dict[str, dict[str, list[dict[str, float]]]] = {case.key: {} for case in CASES}
    for turn in range(rounds):
        for case in CASES:
            first = turn % len(case.forms)
            for form in case.forms[first:] + case.forms[:first]:
                say(f"  round {turn + 1}: {case.key}, {form.key}")
                graph = work / case.size.name / form.graph / "model.onnx"
                once = figures_of("attention", "--once", graph, form.runtime, case.batch)
                results[case.key].setdefault(form.key, []).append(once)
    return {"rounds": rounds, "threads": THREADS, "cases": results}


def _write_graphs(folder: Path, size: Size) -> None:
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}.part")
    part.mkdir(parents=True)
    save_checkpoint(size, part / "model.pth")
    model = unscrambled(load_checkpoint(part / "model.pth", size.options).model)
    for name, limit in ((_WHOLE, _NO_LIMIT), (_BLOCKS, attention.MAX_SCORES)):
        (part / name).mkdir()
        with tempfile.TemporaryDirectory(dir=part) as bank, mock.patch.object(attention, "MAX_SCORES", limit):
            write_onnx(model, Path(bank) / "model.onnx", layout=Layout.CUBES)
            embed_key(Path(bank) / "model.onnx", keyed_tensors(model), part / name / "model.onnx")
    geometry = model.config.geometry
    np.save(part / "clip.npy", geometry.to_cubes(real_clips(geometry)[:1], np))
    part.rename(folder)


# The page

_PAGE = """# Attention on a CPU

{text}

{sections}

<sub>{stamp}</sub>
"""


def render(results: dict[str, Any]) -> str:
    figures = results["figures"]
    text = paragraph(
        "Generated by `python -m benchmarks.attention`. The same float32 model with attention in the forms that",
        "runtimes run it; see [engines](../guides/engines.md#runtimes). Every row is the median of",
        f"{figures['rounds']} fresh processes with {figures['threads']} threads, in changing order. Ratios are to the",
        "first row, round by round. Memory is the peak of the whole process, with its libraries (PyTorch among",
        "them), weights and graph.",
        f"All other work took {results['others']:.2f} of a core." if "others" in results else results.get("note", ""),
    )
    versions = ", ".join(f"{package} {number}" for package, number in results["versions"].items())
    return _PAGE.format(
        text=text,
        sections="\n\n".join(f"## {case.label}\n\n{_table(case, figures['cases'][case.key])}" for case in CASES),
        stamp=f"{results['date']}; {results['machine']}; {versions}",
    )


def _table(case: Case, runs: dict[str, list[dict[str, float]]]) -> str:
    first = [run["seconds"] for run in runs[case.forms[0].key]]
    rows = []
    for form in case.forms:
        times = [run["seconds"] for run in runs[form.key]]
        ratios = sorted(time / other for time, other in zip(times, first, strict=True))
        peak = median(run["peak_bytes"] for run in runs[form.key])
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        rows.append((form.label, f"{median(times):.2f} s", f"{median(ratios):.2f}", spread, f"{peak / 1e6:.0f} MB"))
    return table(("form", "time", "ratio", "lowest to highest", "peak memory"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder that keeps the graphs")
    parser.add_argument("--only-page", action="store_true")
    parser.add_argument("--once", nargs=3, metavar=("GRAPH", "RUNTIME", "BATCH"), help="one run, in this process")
    given = parser.parse_args()
    if given.once:
        graph, runtime, batch = given.once
        print(json.dumps(run_once(Path(graph), runtime, int(batch))))
        return
    if not given.only_page:
        with tempfile.TemporaryDirectory() as folder:
            found, before = stamp(), clock()
            figures = measure((given.work or Path(folder)).resolve(), given.rounds)
            found["others"] = others(before, clock())
        FIGURES.write_text(json.dumps({**found, "machine": machine(), "figures": figures}, indent=2) + "\n")
    PAGE.write_text(render(json.loads(FIGURES.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
