"""The ways to run a model on a GPU (or, to try this script, on a CPU): scrambled, and the same without a key."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.bench import Bench
from benchmarks.common.contestants import UnavailableError
from benchmarks.common.measure import seconds
from benchmarks.common.plain import plain_cubes
from lcve_deploy import EncryptedClip, PlainClip, SessionOptions, open_session
from lcve_deploy.artifact import EngineKind, Profile
from lcve_deploy.cipher.weights import scramble, unscrambled
from lcve_deploy.exporters.tensorrt import PlanOptions
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.session import Provider
from lcve_deploy.verbs.build import BuildOptions, RefitPlan, build

Clips = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.floating[Any]]
Run = Callable[[], Logits]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A model with a key and without, on one backend. Each takes plain clips and prepares a run of them.

    Args:
        ours: the scrambled model.
        plain: the same without a key.
        build_seconds: until both could run.
        resident: the scrambled model on clips that are on the device already; None where it takes none.
    """

    ours: Callable[[Clips], Run]
    plain: Callable[[Clips], Run]
    build_seconds: float
    resident: Callable[[Clips], Run] | None = None


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run a model.

    Args:
        label: on the page.
        devices: where it can run.
        open: makes a pair for a precision and the batch sizes that will be asked for.
        kind: of the engine; None where there is no engine of this package.
    """

    label: str
    devices: tuple[str, ...]
    open: Callable[[Bench, Precision, tuple[int, ...], str], Pair]
    kind: EngineKind | None = None


def engine_options(kind: EngineKind, precision: Precision, batches: tuple[int, ...], **more: Any) -> BuildOptions:
    """One engine for all batch sizes."""
    profile = Profile(minimum=min(batches), optimum=sorted(batches)[len(batches) // 2], maximum=max(batches))
    plan = PlanOptions(profile=profile, refittable=more.pop("refittable", False))
    return BuildOptions(kind=kind, precision=precision, plan=plan, **more)


def open_engines(
    bench: Bench, precision: Precision, batches: tuple[int, ...], device: str, *, kind: EngineKind, **more: Any
) -> Pair:
    """An engine of the artifact, and the same of the plain server."""
    options = engine_options(kind, precision, batches, **more)
    started = time.perf_counter()
    for server in (bench.server, bench.plain_server):
        build(server, options)
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

    takes_cupy = kind in (EngineKind.TENSORRT, EngineKind.TENSORRT_RTX)
    return Pair(ours=encrypted, plain=bare, build_seconds=took, resident=resident if takes_cupy else None)


def open_compiled(bench: Bench, precision: Precision, batches: tuple[int, ...], device: str) -> Pair:
    """torch.compile of the scrambled model and of the plain one; both take cubes."""
    import torch

    from benchmarks.common.devices import torch_device
    from benchmarks.gpu.torch_models import CubeModel

    if torch_device(device) != device:
        raise UnavailableError("this PyTorch has no CUDA")
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

    def encrypted(clips: Clips) -> Run:
        return runner(models[0], bench.client.encrypt(PlainClip(values=clips)).values)

    def bare(clips: Clips) -> Run:
        return runner(models[1], plain_cubes(clips, bench.plain_server).values)

    return Pair(ours=encrypted, plain=bare, build_seconds=time.perf_counter() - started)


def refit_against_rebuild(
    bench: Bench, kind: EngineKind, precision: Precision, batches: tuple[int, ...]
) -> dict[str, float]:
    """Seconds to give an engine the weights of another key, by a refit and by a build.

    The other key is none at all: the plain server has the same graph with other keyed tensors. Both results
    answer its probe, or there is an error.
    """
    rebuilt, refitted = (
        engine_options(kind, precision, batches, name=name, refittable=True) for name in ("rebuilt", "refitted")
    )
    plan = RefitPlan.of(bench.server, build(bench.server, rebuilt))
    return {
        "rebuild_seconds": seconds(lambda: build(bench.plain_server, rebuilt)),
        "refit_seconds": seconds(lambda: build(bench.plain_server, refitted, refit=plan)),
    }


_CUDA: Mapping[str, Any] = {"provider": Provider.CUDA, "provider_options": {"use_tf32": "0"}}

BACKENDS: dict[str, Backend] = {
    "tensorrt": Backend(
        label="TensorRT",
        devices=("cuda",),
        open=partial(open_engines, kind=EngineKind.TENSORRT),
        kind=EngineKind.TENSORRT,
    ),
    "tensorrt-rtx": Backend(
        label="TensorRT-RTX",
        devices=("cuda",),
        open=partial(open_engines, kind=EngineKind.TENSORRT_RTX),
        kind=EngineKind.TENSORRT_RTX,
    ),
    "onnxruntime-cuda": Backend(
        label="ONNX Runtime, CUDA provider",
        devices=("cuda",),
        open=partial(open_engines, kind=EngineKind.ONNXRUNTIME, **_CUDA),
    ),
    "onnxruntime-cpu": Backend(
        label="ONNX Runtime, CPU provider",
        devices=("cpu",),
        open=partial(open_engines, kind=EngineKind.ONNXRUNTIME),
    ),
    "torch-compile": Backend(label="torch.compile", devices=("cuda", "cpu"), open=open_compiled),
}
"""The best first; the last have no engine of this package and stand for what people have without it."""
