"""Sessions on OpenVINO, for CPUs; fast where they compute with bf16 or int8."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineRecord, ModelSpec
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import SessionError
from lcve_deploy.libraries.requiring import require
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.cpu import cpu_name
from lcve_deploy.runtime.session import check_clip

__all__ = ["OpenVinoSession"]

_TYPES: Final = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.FP16: "f16", Precision.INT8: "f32"}
"""What OpenVINO is told; untold, it takes bf16 where the CPU has it. An int8 graph says itself what is int8."""

_EXECUTED: Final = {
    Precision.FP32: {"f32"},
    Precision.BF16: {"bf16"},
    Precision.FP16: {"f16"},
    Precision.INT8: {"i8", "f32"},  # attention and what a key moves stay float32
}
"""Types of the matrix products in what OpenVINO then executes."""

_PRODUCTS: Final = ("FullyConnected", "MatMul", "ScaledDotProductAttention")
_FUSED: Final = "Subgraph"
"""Layers of OpenVINO that are matrix products, and one that can have some in it."""

_FIELDS: Final = ("layerType", "originalLayersNames", "runtimePrecision")
"""What OpenVINO says of a layer that it executes."""

_SHORT: Final = {"uint8": "u8", "float32": "f32"}


class OpenVinoSession:
    """A graph in OpenVINO, on the CPU.

    Args:
        graph: the ``.onnx`` file; its digest has been checked.
        model: of the artifact that it belongs to.
        engine: its record, with the precision to compute with; another one in its place is an error.
        threads: threads of one inference; None for OpenVINO's choice.

    Raises:
        SessionError: OpenVINO refuses the graph, this CPU cannot compute with the precision, or the graph is
            not what the manifest says.
        MissingDependencyError: OpenVINO is not installed.
    """

    def __init__(self, graph: Path, model: ModelSpec, engine: EngineRecord, *, threads: int | None = None) -> None:
        with require("running this engine needs OpenVINO", extra="openvino"):
            import openvino
        self._model, self._engine, self._version = model, engine, openvino.__version__.partition("-")[0]
        wanted = {"INFERENCE_PRECISION_HINT": _TYPES[engine.precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            wanted["INFERENCE_NUM_THREADS"] = str(threads)
        core = openvino.Core()
        try:
            compiled = core.compile_model(graph, "CPU", wanted)
        except RuntimeError as error:
            raise SessionError(f"OpenVINO cannot open {graph}: {error}") from None
        _require_executed(compiled, engine.precision)
        _require_capability(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"), engine.precision)
        self._check_graph(compiled)
        self._request, self._lock = compiled.create_infer_request(), threading.Lock()

    @property
    def model(self) -> ModelSpec:
        """What the model takes and gives."""
        return self._model

    @property
    def engine(self) -> EngineRecord:
        """Record of the engine."""
        return self._engine

    @property
    def device(self) -> str:
        """Runtime and hardware."""
        return f"openvino {self._version}, {cpu_name()}"

    def run(self, clip: EncryptedClip) -> npt.NDArray[np.float32]:
        """Logits ``[clips, classes]`` (float32) in the artifact's own label order."""
        check_clip(clip, self._model)
        feed = {self._model.input.name: np.ascontiguousarray(clip.values)}
        try:
            with self._lock:  # the answer lies in the request's own memory until it is copied
                answers = self._request.infer(feed)
                return np.array(answers[self._model.output.name], dtype=np.float32)
        except RuntimeError as error:
            raise SessionError(f"OpenVINO failed: {error}") from None

    def _check_graph(self, compiled: Any) -> None:
        spec = (self._model.input, self._model.output)
        expected = [(tensor.name, _SHORT.get(tensor.dtype), tensor.shape) for tensor in spec]
        received = [
            (port.any_name, port.element_type.to_string(), _shape(port))
            for port in (*compiled.inputs, *compiled.outputs)
        ]
        if received != expected:
            raise SessionError(f"the graph has {received}, its manifest says {expected}")


def _shape(port: Any) -> tuple[int | None, ...]:
    return tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)


def _require_executed(model: Any, precision: Precision) -> None:
    """OpenVINO silently uses another type if the CPU does not have the one that was asked for."""
    used = _product_types(model)
    if used != _EXECUTED[precision]:
        raise SessionError(
            f"expected OpenVINO to compute with {precision}, but on this CPU, {cpu_name()}, it takes "
            f"{', '.join(sorted(used))}",
            hint="this CPU does not have the type; choose another precision",
        )


def _require_capability(capabilities: list[str], precision: Precision) -> None:
    """OpenVINO silently emulates bf16 on CPUs that have AVX-512 without bf16."""
    if precision.upper() not in capabilities:
        raise SessionError(
            f"expected OpenVINO to compute with {precision}, but this CPU, {cpu_name()}, does not have it, and "
            "OpenVINO would emulate it",
            hint="choose another precision",
        )


def _product_types(model: Any) -> set[str]:
    """Types of all matrix products, as OpenVINO says of the layers that it executes."""
    types = set()
    for node in model.get_runtime_model().get_ops():
        kind, names, used = (node.get_rt_info()[field].astype(str) for field in _FIELDS)
        if kind in _PRODUCTS or (kind == _FUSED and "MatMul" in names):
            types.add(used)
    return types
