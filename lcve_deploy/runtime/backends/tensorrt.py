"""Sessions on TensorRT and TensorRT-RTX: tested against stand-ins. No engine has run on hardware yet.

CuPy provides the device buffers, pinned host memory and streams; torch is not needed. A batch already on the device is
used in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineRecord, FileRecord, ModelSpec, Profile, TensorSpec
from lcve_deploy.artifact.digests import hold_checked
from lcve_deploy.artifact.graph_files import GraphSource, read_graph
from lcve_deploy.artifact.names import KEY_INPUT, RUNTIME_CACHE
from lcve_deploy.errors import DeviceError, SessionError
from lcve_deploy.libraries.cuda import Gpu, driver_version, find_gpu
from lcve_deploy.libraries.requiring import require
from lcve_deploy.libraries.tensorrt import (
    TensorRT,
    buildable_capabilities,
    create,
    dtype_name,
    find_tensorrt,
    numeric_version,
    refit_engine,
)
from lcve_deploy.runtime.backends.pipeline import DeviceRows, Pipeline
from lcve_deploy.runtime.bank import Tensors
from lcve_deploy.runtime.banked import BankedSession, graph_inputs
from lcve_deploy.runtime.key_folders import KeyFolders
from lcve_deploy.runtime.session import SessionOptions

__all__ = ["TensorRTSession"]

_DEFAULTS: Final = SessionOptions()

_PROFILE: Final = 0
_MEMORY_HINT: Final = "free memory on the GPU, or build the engine with a smaller maximum batch"

_OLD_DRIVER: Final = "cudaErrorInsufficientDriver"
_DRIVER_HINT: Final = "update the NVIDIA driver, or install packages for an older CUDA"

_OF_THE_MACHINE: Final[Mapping[str, str]] = {
    "UNSUPPORTED_CC": "it was not built for this GPU",
    "OLD_CUDA_DRIVER": "the GPU's driver is too old",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory",
    "CUDA_ERROR": "CUDA does not work",
}
"""Faults in a plan's header that concern this machine only; the plan may run on another."""

_OF_THE_PLAN: Final[Mapping[str, str]] = {
    "VERSION_MISMATCH": "another version built it",
    "MALFORMED_ENGINE": "it is damaged or not an engine",
}
"""Faults of the plan itself, on any machine with this library."""


class TensorRTSession(BankedSession):
    """A plan, opened on a GPU of this machine. Copies the next batch while it computes one.

    A version-compatible plan contains code that the library executes, so it must come from a trusted builder.

    Args:
        plan: the engine's file; its digest has been checked.
        model: model of the artifact that the plan was built from.
        engine: record of the engine: library, version that built it, batch sizes, and version compatibility.
        options: number of the GPU, keys in memory.
        weights: the graph that a stripped plan was built from, to refit its weights; None for a complete plan. Read
            and checked; the library reads a private copy.
        folders: key folders that cold keys are loaded from; without them, keys are put into the bank.

    Raises:
        MissingDependencyError: the library or CuPy is not installed.
        DeviceError: there is no such GPU, the plan was not built for it, or its driver is too old.
        SessionError: the installed version cannot run the plan, the plan is damaged, the weights do not fit it,
            memory is too small, or the engine does not match the manifest.
    """

    def __init__(
        self,
        plan: Path,
        model: ModelSpec,
        engine: EngineRecord,
        options: SessionOptions = _DEFAULTS,
        *,
        weights: GraphSource | None = None,
        folders: KeyFolders | None = None,
    ) -> None:
        version_compatible = "version_compatible" in engine.options
        self._library = find_tensorrt(engine.kind)
        built_with = engine.builder.get(engine.kind, "")
        _check_version(plan, self._library, built_with, version_compatible=version_compatible)
        self._number = options.device or 0
        self._gpu = _require_gpu(self._library, self._number)
        self._cupy = _import_cupy(engine.kind)
        profile = engine.profile or Profile()
        with self._on_device("open the engine"):
            self._runtime = _runtime(self._library)
            if version_compatible:
                self._runtime.engine_host_code_allowed = True
            self._engine = _open(plan, self._runtime, self._library, engine.files)
            if weights is not None:
                _give_weights(self._engine, plan, weights, self._library)
            _check_engine(self._engine, model, profile)
            _require_keys(self._engine, model, engine, options.max_keys)
            self._config, self._cache = _runtime_config(self._engine, plan, engine, self._library)
            self._context = _context(self._engine, self._library, self._config)
            self._rows = DeviceRows(model.bank, options.max_keys)
            self._bind_rows()
            fixed = "cuda_graphs" in engine.options
            self._pipeline = Pipeline(model, profile, self._enqueue, fixed=fixed)
        super().__init__(model, engine, memory=self, rows=options.max_keys, folders=folders)

    @property
    def device(self) -> str:
        """Library with its version, and GPU."""
        return f"{self._library} on {self._gpu}"

    def write(self, row: int, tensors: Tensors) -> None:
        """Copy one row of the bank to the GPU; see ``BankMemory``."""
        with self._on_device("keep a key"):
            self._rows.write(row, tensors)

    def _compute(self, values: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return logits; clips are NumPy, or CuPy on the session's GPU, read in place after its stream's work."""
        with self._on_device("run the engine"):
            return self._pipeline.run(values, rows)

    def runtime_cache(self) -> bytes:
        """Return the kernels that TensorRT-RTX has compiled so far; empty if there are none. They speed up opening."""
        content = None if self._cache is None else self._cache.serialize()
        return b"" if content is None else bytes(content)

    def _check_place(self, values: Any) -> None:
        if isinstance(values, self._cupy.ndarray) and values.device.id != self._number:
            raise ValueError(
                f"expected clips on GPU {self._number}, on which the session runs, received clips on GPU "
                f"{values.device.id}"
            )

    def _bind_rows(self) -> None:
        """Give the bank to the context, once: its shape and its addresses never change."""
        self._library.log.clear()
        for name, array in self._rows.arrays.items():
            shaped = self._context.set_input_shape(name, tuple(array.shape))
            if not (shaped and self._context.set_tensor_address(name, array.data.ptr)):
                raise SessionError(f"{self._library} refuses the bank of keys: {self._library.log.quote()}")

    def _enqueue(self, clips: Mapping[str, Any], rows: Any, logits: Any, stream: Any) -> None:
        self._library.log.clear()
        inputs = {**clips, KEY_INPUT: rows}
        done = all(self._context.set_input_shape(name, tuple(array.shape)) for name, array in inputs.items())
        for name, array in {**inputs, self._model.output.name: logits}.items():
            done = done and self._context.set_tensor_address(name, array.data.ptr)
        if not (done and self._context.execute_async_v3(stream.ptr)):
            raise SessionError(f"{self._library} failed: {self._library.log.quote()}")

    @contextlib.contextmanager
    def _on_device(self, work: str) -> Iterator[None]:
        """Use the session's GPU, whatever the calling thread's current device; convert CUDA errors to SessionError."""
        cuda = self._cupy.cuda
        try:
            with cuda.Device(self._number):
                yield
        except cuda.memory.OutOfMemoryError as error:
            raise SessionError(f"the GPU has too little memory to {work}: {error}", hint=_MEMORY_HINT) from None
        except cuda.runtime.CUDARuntimeError as error:
            if _OLD_DRIVER in str(error):
                raise DeviceError(_old_driver(), hint=_DRIVER_HINT) from None
            raise SessionError(f"CUDA could not {work}: {error}") from None


def _check_version(plan: Path, library: TensorRT, built_with: str, *, version_compatible: bool) -> None:
    built, installed = numeric_version(built_with), numeric_version(library.version)
    if built == installed or (version_compatible and built < installed):
        return
    rule = "only later versions can run it" if version_compatible else "only that version can run it"
    raise SessionError(
        f"{plan} was built by {library.name} {built_with}, and {rule}; the installed version is {library}",
        hint=f"install that version, or {_rebuild(plan, library)}",
    )


def _require_gpu(library: TensorRT, device: int) -> Gpu:
    gpu = find_gpu(device)
    if gpu is None and device and find_gpu() is not None:
        raise DeviceError(
            f"expected a GPU of number {device}, but this machine has fewer",
            hint="GPUs count from 0; CUDA_VISIBLE_DEVICES may hide some",
        )
    if gpu is None:
        raise DeviceError(
            f"{library.name} needs an NVIDIA GPU and its driver, but none was found",
            hint="run the engine on a machine that has one; on this machine, run the artifact on the CPU",
        )
    return gpu


def _runtime(library: TensorRT) -> Any:
    runtime = create(library, "Runtime")
    if runtime is None:
        raise DeviceError(
            f"{library} cannot start here: {library.log.quote()}; the NVIDIA driver supports CUDA "
            f"{driver_version() or 'of an unknown version'} at most",
            hint=_DRIVER_HINT,
        )
    return runtime


def _old_driver() -> str:
    return f"the NVIDIA driver is older than the CUDA libraries: it supports CUDA {driver_version()} at most"


def _import_cupy(extra: str) -> Any:
    with require("running a TensorRT engine needs CuPy", extra=extra):
        import cupy
        import cupyx  # noqa: F401  # pinned memory, needed later
    return cupy


def _open(plan: Path, runtime: Any, library: TensorRT, files: Mapping[str, FileRecord] | None = None) -> Any:
    content = bytes(hold_checked(plan.parent, plan.name, files or None, mapped=False).data)
    _check_validity(plan, content, runtime, library)
    library.log.clear()
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise SessionError(
            f"{plan} is damaged or not an engine of {library}: {library.log.quote()}", hint=_rebuild(plan, library)
        )
    return engine


def _rebuild(plan: Path, library: TensorRT) -> str:
    """Return a hint to rebuild the plan at ``SERVER/engines/NAME/``."""
    return f"rebuild the engine here: lcve build {plan.parent.parent.parent} --runtime {library.kind}"


def _check_validity(plan: Path, content: bytes, runtime: Any, library: TensorRT) -> None:
    """Check the plan's header before loading it, if the library can."""
    if not hasattr(runtime, "get_engine_validity"):
        return
    library.log.clear()
    validity, diagnostics = runtime.get_engine_validity(content)
    if validity != library.member("EngineValidity", "INVALID"):
        return
    members = library.module.EngineInvalidityDiagnostics.__members__.items()
    found = [name for name, flag in members if int(diagnostics) & int(flag)]
    known = {**_OF_THE_MACHINE, **_OF_THE_PLAN}
    reasons = ", ".join(known.get(name, name) for name in found) or library.log.quote()
    kind = DeviceError if found and set(found) <= set(_OF_THE_MACHINE) else SessionError
    raise kind(f"{library} cannot run {plan} on this machine: {reasons}", hint=_what_helps(plan, library))


def _what_helps(plan: Path, library: TensorRT) -> str:
    """Return a hint to rebuild, unless the library cannot build for this GPU."""
    gpu, known = find_gpu(), buildable_capabilities(library)
    if gpu is None or not known or gpu.capability in known:
        return _rebuild(plan, library)
    return (
        f"{library} has no kernels for {gpu}; it builds for {', '.join(known)}. Use TensorRT, or ONNX Runtime: "
        f"lcve build {plan.parent.parent.parent} --runtime onnxruntime --provider cuda"
    )


def _give_weights(engine: Any, plan: Path, weights: GraphSource, library: TensorRT) -> None:
    files = read_graph(weights)
    with files.on_disk() as path:
        problem = refit_engine(library, engine, path)
    if problem:
        raise SessionError(f"the weights of {files.path} do not fit {plan}: {problem}", hint=_rebuild(plan, library))


def _check_engine(engine: Any, model: ModelSpec, profile: Profile) -> None:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    received = [_spec(engine, name) for name in names]
    expected = [*graph_inputs(model), model.output]
    if sorted(received, key=lambda spec: spec.name) != sorted(expected, key=lambda spec: spec.name):
        raise SessionError(f"the engine has {received}, but its manifest says {expected}")
    for name in (*(spec.name for spec in model.clip_inputs), KEY_INPUT):
        built = _built_sizes(engine, name)
        if built != (profile.minimum, profile.optimum, profile.maximum):
            raise SessionError(f"the engine was built for batches of {built}, but its record says {profile}")


def _require_keys(engine: Any, model: ModelSpec, record: EngineRecord, keys: int) -> None:
    for spec in model.bank:
        fewest, _, most = _built_sizes(engine, spec.name)
        if not fewest <= keys <= most:
            raise SessionError(
                f"the engine {record.name} was built for {fewest} to {most} keys in memory, received {keys}",
                hint="keep fewer keys in memory, or build the engine for more",
            )


def _built_sizes(engine: Any, name: str) -> tuple[int, ...]:
    """Return minimum, optimum and maximum of an input's first axis."""
    return tuple(int(shape[0]) for shape in engine.get_tensor_profile_shape(name, _PROFILE))


def _spec(engine: Any, name: str) -> TensorSpec:
    shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
    return TensorSpec(name=name, dtype=dtype_name(engine.get_tensor_dtype(name)), shape=shape)


def _runtime_config(engine: Any, plan: Path, record: EngineRecord, library: TensorRT) -> tuple[Any, Any]:
    """Return how TensorRT-RTX compiles kernels, and its cache of them; None twice for TensorRT, which compiles none.

    By default it runs slower general kernels until those for a batch size are compiled in the background: a probe
    would judge and time kernels that do not run later.

    Source: documentation of TensorRT-RTX, "Working with Runtime Cache", "Working with RTX CUDA Graphs".
    """
    eager = library.member("DynamicShapesKernelSpecializationStrategy", "EAGER")
    if eager is None:
        return None, None
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = eager
    if "cuda_graphs" in record.options:
        config.cuda_graph_strategy = library.member("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE")
    cache = config.create_runtime_cache()
    if RUNTIME_CACHE in record.files:  # one of another GPU or driver is left out, and kernels are compiled again
        cache.deserialize(bytes(hold_checked(plan.parent, RUNTIME_CACHE, record.files, mapped=False).data))
    config.set_runtime_cache(cache)
    return config, cache


def _context(engine: Any, library: TensorRT, config: Any) -> Any:
    library.log.clear()
    context = engine.create_execution_context() if config is None else engine.create_execution_context(config)
    if context is None:
        raise SessionError(f"{library} cannot prepare the engine: {library.log.quote()}", hint=_MEMORY_HINT)
    return context
