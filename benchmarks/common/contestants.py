"""All that can run one clip on this machine; those that cannot say why."""

from __future__ import annotations

import atexit
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.files import ROOT
from benchmarks.common.measure import seconds
from lcve_deploy import SessionOptions, open_session
from lcve_deploy.artifact import EngineKind
from lcve_deploy.errors import LcveError
from lcve_deploy.model.precision import Precision

Logits = npt.NDArray[np.floating[Any]]
Run = Callable[[], Logits]


class UnavailableError(Exception):
    """A contestant that this machine cannot have."""


_MAX_REASON = 200
_MAX_SECONDS = 15.0
"""Slower contestants would only take the time of the others."""

FAILURES = (UnavailableError, LcveError, ImportError, RuntimeError, OSError, MemoryError, subprocess.SubprocessError)


def reason(error: Exception) -> str:
    """The first line of an error, without the folders of this machine."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"/\S*/", "", line)[:_MAX_REASON]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to run a clip.

    Args:
        key: in the results.
        label: on the page.
        make: prepares it; the callable that comes back gives logits ``[1, classes]`` in the plain order.
    """

    key: str
    label: str
    make: Callable[[Bench], Run]


def ours(bench: Bench, kind: EngineKind, precision: Precision) -> Run:
    session = open_session(bench.server, SessionOptions(engine=bench.engine(kind, precision), threads=THREADS))
    clip, client = bench.encrypted, bench.client
    return lambda: client.plain_order(session.run(clip))


def in_torch(bench: Bench, *, is_compiled: bool = False, is_bf16: bool = False) -> Run:
    import torch

    if is_bf16:
        _require_bf16()
    module = _module(bench)
    run = torch.compile(module) if is_compiled else module
    clip = torch.from_numpy(bench.normalised)

    def answer() -> Logits:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bf16):
            logits: Logits = run(clip).float().numpy()
        return logits

    return answer


def aot_inductor(bench: Bench) -> Run:
    import torch
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    package, clip = bench.work / "aot_inductor.pt2", torch.from_numpy(bench.normalised)
    module = _module(bench)
    if not package.exists():
        aoti_compile_and_package(torch.export.export(module, (clip,)), package_path=str(package))
    run = aoti_load_package(str(package))

    def answer() -> Logits:
        with torch.inference_mode():
            logits: Logits = run(clip).numpy()
        return logits

    return answer


def executorch(bench: Bench) -> Run:
    """Answers of a process of its own, in an environment of its own."""
    import torch

    from benchmarks.common.models import without_convolution

    python = _environment("executorch")
    folder = bench.work / "executorch"
    folder.mkdir(exist_ok=True)
    program, clip, answer = folder / "program.pt2", folder / "clip.npy", folder / "answer.npy"
    if not program.exists():
        module = without_convolution(bench.size)
        torch.export.save(torch.export.export(module, (torch.from_numpy(bench.normalised),)), program)
    np.save(clip, bench.normalised)
    command = [
        python,
        "-P",
        ROOT / "benchmarks/peers/executorch_peer.py",
        program,
        folder / "lowered.pte",
        clip,
        answer,
    ]
    process = subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    atexit.register(process.communicate)  # ends its input, and waits: its time belongs to this process

    def run() -> Logits:
        assert process.stdin is not None
        process.stdin.write("run\n")
        process.stdin.flush()
        _expect(process, "done")
        logits: Logits = np.load(answer)
        return logits

    _expect(process, "ready")
    if (took := seconds(run)) > _MAX_SECONDS:
        process.terminate()
        raise UnavailableError(f"one clip takes {took:.0f} s here")
    return run


def exported_in_onnxruntime(bench: Bench) -> Run:
    return _file_in_onnxruntime(bench.plain_export, bench.normalised)


def optimum_in_onnxruntime(bench: Bench) -> Run:
    """A file that optimum-onnx writes from a transformers folder with the same weights."""
    path = bench.work / "optimum/model.onnx"
    if not path.exists():
        python = _environment("optimum")
        from benchmarks.common.huggingface import save_folder

        save_folder(bench.size, bench.work / "transformers")
        path.parent.mkdir(exist_ok=True)
        command = [python, "-P", ROOT / "benchmarks/peers/optimum_peer.py", bench.work / "transformers", path]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            raise UnavailableError((done.stderr.splitlines() or ["its process ended with an error"])[-1])
    return _file_in_onnxruntime(path, np.ascontiguousarray(bench.normalised.swapaxes(1, 2)))


def exported_in_openvino(bench: Bench) -> Run:
    return _in_openvino(bench.plain_export, bench, "f32")


def openvino_converts(bench: Bench, hint: str) -> Run:
    import openvino
    import torch

    if hint == "bf16":
        _require_bf16()
    path = bench.work / "converted/model.xml"
    if not path.exists():
        model = openvino.convert_model(_module(bench), example_input=torch.from_numpy(bench.normalised))
        openvino.save_model(model, path, compress_to_fp16=False)
    return _in_openvino(path, bench, hint)


def onnxruntime_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def cpu_has_bf16() -> bool:
    """As the kernel lists it (avx512_bf16, amx_bf16, bf16); False where there is no such list."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return "bf16" in flags


def _require_bf16() -> None:
    if not cpu_has_bf16():
        raise UnavailableError("this CPU has no bf16")


def _environment(name: str) -> Path:
    """Python of an environment that only one contestant needs."""
    python = ROOT / f".venv-{name}/bin/python"
    if not python.exists():
        raise UnavailableError(f"not installed: make peers makes .venv-{name}")
    return python


def _expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    raise UnavailableError(f"its process ended with exit status {process.wait()}")


def _file_in_onnxruntime(path: Path, clip: npt.NDArray[np.float32]) -> Run:
    session = onnxruntime_session(path)
    feed = {session.get_inputs()[0].name: clip}
    return lambda: np.asarray(session.run(None, feed)[0])


def _in_openvino(path: Path, bench: Bench, hint: str) -> Run:
    import openvino

    wanted = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(THREADS)}
    request = openvino.Core().compile_model(path, "CPU", wanted).create_infer_request()
    clip = bench.normalised
    return lambda: np.array(request.infer({0: clip})[0])


def _module(bench: Bench) -> Any:
    import torch

    from benchmarks.common.models import videomae

    torch.set_num_threads(THREADS)
    return videomae(bench.size)


_NAMES = {EngineKind.ONNXRUNTIME: "ONNX Runtime", EngineKind.OPENVINO: "OpenVINO"}
_ENGINES = (
    (EngineKind.ONNXRUNTIME, Precision.FP32),
    (EngineKind.ONNXRUNTIME, Precision.INT8),
    (EngineKind.OPENVINO, Precision.FP32),
    (EngineKind.OPENVINO, Precision.BF16),
    (EngineKind.OPENVINO, Precision.INT8),
)
_PEERS: dict[str, tuple[str, Callable[[Bench], Run]]] = {
    "eager-fp32": ("PyTorch eager fp32", in_torch),
    "compile-fp32": ("torch.compile fp32", partial(in_torch, is_compiled=True)),
    "eager-bf16": ("PyTorch bf16 autocast", partial(in_torch, is_bf16=True)),
    "compile-bf16": ("torch.compile bf16 autocast", partial(in_torch, is_compiled=True, is_bf16=True)),
    "aot-inductor-fp32": ("AOTInductor fp32", aot_inductor),
    "executorch-fp32": ("ExecuTorch 1.5.1, XNNPACK fp32", executorch),
    "exported-onnxruntime-fp32": ("torch.onnx.export, ONNX Runtime fp32", exported_in_onnxruntime),
    "optimum-onnxruntime-fp32": ("optimum-onnx 0.1, ONNX Runtime fp32", optimum_in_onnxruntime),
    "exported-openvino-fp32": ("torch.onnx.export, OpenVINO fp32", exported_in_openvino),
    "converted-openvino-fp32": ("openvino.convert_model, OpenVINO fp32", partial(openvino_converts, hint="f32")),
    "converted-openvino-bf16": ("openvino.convert_model, OpenVINO bf16", partial(openvino_converts, hint="bf16")),
}

CONTESTANTS = (
    *(
        Contestant(
            key=f"ours-{kind}-{precision}",
            label=f"this package, {_NAMES[kind]} {precision}",
            make=partial(ours, kind=kind, precision=precision),
        )
        for kind, precision in _ENGINES
    ),
    *(Contestant(key=key, label=label, make=make) for key, (label, make) in _PEERS.items()),
)
"""Our session in float32 comes first: all others are measured against it."""

BY_KEY = {contestant.key: contestant for contestant in CONTESTANTS}
