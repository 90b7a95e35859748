"""Sessions on ONNX Runtime. The requested execution provider is used, or opening fails."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineRecord, ModelSpec
from lcve_deploy.artifact.engine_options import DEVICE, TF32, allows_tf32
from lcve_deploy.artifact.graph_files import GraphFiles, GraphSource, read_graph
from lcve_deploy.artifact.names import KEY_INPUT
from lcve_deploy.errors import SessionError
from lcve_deploy.libraries.cuda import driver_version, find_gpu
from lcve_deploy.libraries.onnxruntime import (
    disable_tf32,
    give_files,
    load_gpu_libraries,
    load_onnxruntime,
    missing_library,
)
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.backends.attention import fuse_attention
from lcve_deploy.runtime.backends.onnxruntime_rows import GpuRows, HostRows, OnnxRuntimeRows
from lcve_deploy.runtime.banked import BankedSession, clip_arrays, graph_inputs
from lcve_deploy.runtime.cpu import cpu_name
from lcve_deploy.runtime.key_folders import KeyFolders
from lcve_deploy.runtime.session import Provider, SessionOptions

__all__ = ["OnnxRuntimeSession"]

_DEFAULTS: Final = SessionOptions()

_NAMES: Final = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
    Provider.TENSORRT_RTX: "NvTensorRTRTXExecutionProvider",
}

_TYPES: Final = {
    "uint8": "tensor(uint8)",
    "int64": "tensor(int64)",
    "float16": "tensor(float16)",
    "float32": "tensor(float)",
}
_FUSED: Final = {
    Provider.CPU: (Precision.FP32, Precision.INT8),
    Provider.CUDA: (Precision.FP32, Precision.INT8, Precision.FP16, Precision.BF16),
}
"""Precisions whose attention a provider has a fused kernel for. Attention is float32 in an int8 graph."""

_INSTALL_HINT: Final = "install CUDA and cuDNN: pip install 'lcve-deploy[gpu]'; TensorRT is a package of its own"


class OnnxRuntimeSession(BankedSession):
    """A graph in ONNX Runtime.

    Args:
        graph: the graph and its files, as they were read and checked; ONNX Runtime opens none of them itself.
        model: model of the artifact that the graph belongs to.
        options: provider (falling back to another is an error), provider options, threads, keys in memory.
        engine: record of the engine that the graph belongs to; None for the artifact's own graph.
        folders: key folders that cold keys are loaded from; without them, keys are put into the bank.

    Raises:
        SessionError: ONNX Runtime refuses the graph, the provider is not available, or the graph does not match
            the manifest.
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        graph: GraphSource,
        model: ModelSpec,
        options: SessionOptions = _DEFAULTS,
        *,
        engine: EngineRecord | None = None,
        folders: KeyFolders | None = None,
    ) -> None:
        onnxruntime = load_onnxruntime("running an artifact")
        self._provider = options.provider
        name = _require_available(options.provider, onnxruntime.get_available_providers())
        if options.provider is not Provider.CPU:
            load_gpu_libraries(onnxruntime)
        provider_options = _provider_options(options)
        settings = onnxruntime.SessionOptions()
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        settings.add_session_config_entry("session.load_model_format", "ONNX")
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        if options.provider is Provider.CPU:
            settings.enable_mem_pattern = False  # it keeps a block of memory for every size of a batch
        files = read_graph(graph, mapped=options.mapped)
        give_files(settings, files.contents())
        try:
            self._session = _open(onnxruntime, files, options.provider, engine, settings, (name, provider_options))
        except _errors() as error:
            hint = "" if options.provider is Provider.CPU else _start_hint()
            raise SessionError(f"ONNX Runtime cannot open {files.path}: {error}", hint=hint) from None
        files.require_unchanged()
        self._require_in_use(name, onnxruntime)
        if options.provider is not Provider.CPU:
            self._require_products_on(name)
        _check_graph(self._session, model)
        self._version, self._gpu = onnxruntime.__version__, int(provider_options.get(DEVICE, "0"))
        self._rows = _rows(onnxruntime, model, options, self._gpu)
        super().__init__(model, engine, memory=self._rows, rows=options.max_keys, folders=folders)

    @property
    def device(self) -> str:
        """Runtime, provider and hardware."""
        hardware = cpu_name() if self._provider is Provider.CPU else str(find_gpu(self._gpu))
        return f"onnxruntime {self._version}, {_NAMES[self._provider]}, {hardware}"

    def _compute(self, values: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        binding = self._session.io_binding()
        try:
            for name, array in clip_arrays(self._model, values).items():
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            binding.bind_cpu_input(KEY_INPUT, rows)
            self._rows.bind(binding)
            binding.bind_output(self._model.output.name)
            self._session.run_with_iobinding(binding)
            (logits,) = binding.copy_outputs_to_cpu()
        except _errors() as error:
            raise SessionError(f"ONNX Runtime failed: {error}") from None
        result: npt.NDArray[np.float32] = np.asarray(logits)
        return result

    def _require_in_use(self, name: str, onnxruntime: Any) -> None:
        """Check the provider. If it cannot start, ONNX Runtime only warns and falls back to the CPU."""
        used = self._session.get_providers()[0]
        if used == name:
            return
        missing = missing_library(onnxruntime, name)
        raise SessionError(
            f"expected {name}, but ONNX Runtime could not start it and fell back to {used}"
            + (f": {missing}" if missing else ""),
            hint=_INSTALL_HINT if missing else _start_hint(),
        )

    def _require_products_on(self, name: str) -> None:
        """Check that the provider runs the matrix products: a provider may start and leave nodes to the CPU.

        Versions of ONNX Runtime that do not report the assignment are trusted.
        """
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return
        parts = [part for part in self._session.get_provider_graph_assignment_info() if part.ep_name != name]
        left = [node.name for part in parts for node in part.get_nodes() if node.op_type == "MatMul"]
        if left:
            raise SessionError(
                f"expected {name} to compute the graph, but it left {len(left)} of its matrix products to others",
                hint="choose another provider or precision",
            )


def _check_graph(session: Any, model: ModelSpec) -> None:
    nodes = [*session.get_inputs(), *session.get_outputs()]
    received = [(node.name, node.type, len(node.shape), tuple(node.shape[1:])) for node in nodes]
    expected = [
        (spec.name, _TYPES.get(spec.dtype, spec.dtype), len(spec.shape), spec.shape[1:])
        for spec in (*graph_inputs(model), model.output)
    ]
    if received != expected:
        raise SessionError(f"the graph has {received}, but its manifest says {expected}")


def _rows(onnxruntime: Any, model: ModelSpec, options: SessionOptions, gpu: int) -> OnnxRuntimeRows:
    if options.provider is Provider.CPU:
        return HostRows(onnxruntime, model.bank, options.max_keys)
    return GpuRows(model.bank, options.max_keys, gpu)


def _open(
    onnxruntime: Any,
    files: GraphFiles,
    provider: Provider,
    engine: EngineRecord | None,
    settings: Any,
    provider_and_options: tuple[str, dict[str, str]],
) -> Any:
    """Open the graph, with fused attention if the provider has a kernel for it."""
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernelError

    precision = Precision.FP32 if engine is None else engine.precision
    plain = files.graph.data
    if precision in _FUSED.get(provider, ()):
        with contextlib.suppress(NoKernelError):  # a version of ONNX Runtime without a kernel for bfloat16
            return onnxruntime.InferenceSession(fuse_attention(plain), settings, providers=[provider_and_options])
    return onnxruntime.InferenceSession(bytes(plain), settings, providers=[provider_and_options])


def _require_available(provider: Provider, available: list[str]) -> str:
    name = _NAMES[provider]
    if name not in available:
        raise SessionError(
            f"expected {name}, but this ONNX Runtime has only: {', '.join(available)}",
            hint="install the package that has it: lcve-deploy[gpu] instead of lcve-deploy[cpu]",
        )
    return name


def _provider_options(options: SessionOptions) -> dict[str, str]:
    """Return the options for ONNX Runtime: the given ones and the GPU, with TF32 off unless it is asked for."""
    given, provider = dict(options.provider_options), options.provider
    if provider is Provider.CPU:
        return given
    if options.device is not None:
        given[DEVICE] = str(options.device)
    if not allows_tf32(given) and provider is not Provider.CUDA:
        disable_tf32()
    tf32 = given.pop(TF32, "0")
    return {**given, TF32: tf32} if provider is Provider.CUDA else given


def _start_hint() -> str:
    version = driver_version()
    found = f"the driver here supports CUDA {version} at most" if version else "no NVIDIA driver was found here"
    return f"check the GPU, its driver and the provider's libraries ({found}), or choose another: --provider cpu"


def _errors() -> tuple[type[Exception], ...]:
    """Return all exception types that ONNX Runtime raises; its own have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)
