"""The ways to run a model on a GPU (or, to try this script, on a CPU): scrambled, and the same without a key."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.bench import Bench
from benchmarks.common.contestants import UnavailableError
from benchmarks.common.plain import plain_cubes
from benchmarks.gpu.case import many_clips
from lcve_deploy import EncryptedClip, PlainClip, SessionOptions, open_session
from lcve_deploy.artifact import EngineKind, Profile
from lcve_deploy.artifact.names import KEY_INPUT
from lcve_deploy.cipher.weights import scramble, unscrambled
from lcve_deploy.exporters.tensorrt import PlanOptions
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.session import Provider
from lcve_deploy.verbs.build import BuildOptions, build

Clips = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.floating[Any]]
Run = Callable[[], Logits]

_CALIBRATION = 4
"""Clips that an int8 engine is calibrated on."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A model with a key and without, on one backend. Each takes plain clips and prepares a run of them.

    Args:
        ours: the scrambled model.
        plain: the same without a key.
        build_seconds: until both could run.
        resident: the scrambled model on clips that are on the device already, where its logits stay; None if it takes
            none there.
        engine: its name at the artifact; None if this package has no part in it.
    """

    ours: Callable[[Clips], Run]
    plain: Callable[[Clips], Run]
    build_seconds: float
    resident: Callable[[Clips], Callable[[], object]] | None = None
    engine: str | None = None


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run a model.

    Args:
        label: on the page.
        devices: where it can run.
        open: makes a pair for a precision and the batch sizes that will be asked for.
    """

    label: str
    devices: tuple[str, ...]
    open: Callable[[Bench, Precision, tuple[int, ...], str], Pair]


def engine_options(kind: EngineKind, precision: Precision, batches: tuple[int, ...], **more: Any) -> BuildOptions:
    """One engine for all batch sizes."""
    profile = Profile(minimum=min(batches), optimum=sorted(batches)[len(batches) // 2], maximum=max(batches))
    return BuildOptions(kind=kind, precision=precision, plan=PlanOptions(profile=profile), **more)


def open_engines(
    bench: Bench, precision: Precision, batches: tuple[int, ...], device: str, *, kind: EngineKind, **more: Any
) -> Pair:
    """An engine of the artifact, and the same of the plain server."""
    options = engine_options(kind, precision, batches, **more)
    started = time.perf_counter()
    few, is_int8 = many_clips(bench, _CALIBRATION), precision is Precision.INT8
    build(bench.server, options, clips=bench.client.encrypt(PlainClip(values=few)) if is_int8 else None)
    build(bench.plain_server, options, clips=plain_cubes(few, bench.plain_server) if is_int8 else None)
    ours, plain = (
        open_session(server, SessionOptions(engine=options.engine_name))
        for server in (bench.server, bench.plain_server)
    )
    took, client = time.perf_counter() - started, bench.client

    def encrypted(clips: Clips) -> Run:
        batch = client.encrypt(PlainClip(values=clips))
        return lambda: client.plain_order(ours.run(batch))

    def bare(clips: Clips) -> Run:
        batch = plain_cubes(clips, bench.plain_server)
        return lambda: plain.run(batch)

    def resident(clips: Clips) -> Run:
        import cupy

        batch = client.encrypt(PlainClip(values=clips))
        on_device = EncryptedClip(values=cupy.asarray(batch.values), binding=batch.binding)
        return lambda: client.plain_order(ours.run(on_device))

    def bound(clips: Clips) -> Callable[[], object]:
        return bound_run(ours, client.encrypt(PlainClip(values=clips)), device)

    resident_by_kind = {EngineKind.TENSORRT: resident, EngineKind.TENSORRT_RTX: resident, EngineKind.ONNXRUNTIME: bound}
    found, name = resident_by_kind.get(kind), options.engine_name
    return Pair(ours=encrypted, plain=bare, build_seconds=took, resident=found, engine=name)


def bound_run(session: Any, clip: EncryptedClip, device: str) -> Callable[[], object]:
    """A run of ONNX Runtime with input and output on the device, which this package has no use for yet.

    No other key is used in the session, so the row of this one stays.
    """
    import onnxruntime

    inner, model = session._session, session.model
    binding = inner.io_binding()
    there = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(clip.values), device, 0)
    binding.bind_ortvalue_input(model.input.name, there)
    with session.bank.lease([clip.binding.key] * len(clip.values)) as rows:
        binding.bind_cpu_input(KEY_INPUT, rows)
    session._rows.bind(binding)
    binding.bind_output(model.output.name, device)

    def run() -> None:
        inner.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def open_compiled(bench: Bench, precision: Precision, batches: tuple[int, ...], device: str) -> Pair:
    """torch.compile of the scrambled model and of the plain one; both take cubes."""
    import torch

    from benchmarks.common.devices import torch_device
    from benchmarks.gpu.torch_models import CubeModel

    if torch_device(device) != device:
        raise UnavailableError("this PyTorch has no CUDA")
    if precision is Precision.INT8:
        raise UnavailableError("torch.compile has no int8 of this kind to compare with")
    started = time.perf_counter()
    models = [
        torch.compile(CubeModel(model, bench.size, precision, device).to(device).eval())
        for model in (scramble(bench.transformer, bench.client.orders), unscrambled(bench.transformer))
    ]

    def runner(model: Any, clips: Clips) -> Run:
        def run() -> Logits:
            with torch.inference_mode():
                result: Logits = model(torch.from_numpy(clips).to(device)).cpu().numpy()
            return result

        return run

    def resident(clips: Clips) -> Callable[[], object]:
        there = torch.from_numpy(bench.client.encrypt(PlainClip(values=clips)).values).to(device)

        def run() -> None:
            with torch.inference_mode():
                models[0](there)
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    def encrypted(clips: Clips) -> Run:
        return runner(models[0], bench.client.encrypt(PlainClip(values=clips)).values)

    def bare(clips: Clips) -> Run:
        return runner(models[1], plain_cubes(clips, bench.plain_server).values)

    return Pair(ours=encrypted, plain=bare, build_seconds=time.perf_counter() - started, resident=resident)


BACKENDS: dict[str, Backend] = {
    "tensorrt": Backend(
        label="TensorRT",
        devices=("cuda",),
        open=partial(open_engines, kind=EngineKind.TENSORRT),
    ),
    "tensorrt-rtx": Backend(
        label="TensorRT-RTX",
        devices=("cuda",),
        open=partial(open_engines, kind=EngineKind.TENSORRT_RTX),
    ),
    "onnxruntime-cuda": Backend(
        label="ONNX Runtime, CUDA provider",
        devices=("cuda",),
        open=partial(open_engines, kind=EngineKind.ONNXRUNTIME, provider=Provider.CUDA),
    ),
    "onnxruntime-cpu": Backend(
        label="ONNX Runtime, CPU provider",
        devices=("cpu",),
        open=partial(open_engines, kind=EngineKind.ONNXRUNTIME),
    ),
    "torch-compile": Backend(label="torch.compile", devices=("cuda", "cpu"), open=open_compiled),
}
"""The best first; the last have no engine of this package and stand for what people have without it."""
