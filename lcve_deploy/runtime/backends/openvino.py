"""Sessions on OpenVINO, for CPUs; fast on those that support bf16 or int8."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineRecord, ModelSpec
from lcve_deploy.artifact.graph_files import GraphFiles, GraphSource, read_graph
from lcve_deploy.artifact.inlining import inputs_for_weights
from lcve_deploy.artifact.names import BANK_PREFIX, KEY_INPUT
from lcve_deploy.errors import SessionError
from lcve_deploy.libraries.requiring import require
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.bank import HostMemory
from lcve_deploy.runtime.banked import BankedSession, clip_arrays, graph_inputs
from lcve_deploy.runtime.cpu import cpu_name
from lcve_deploy.runtime.key_folders import KeyFolders
from lcve_deploy.runtime.session import SessionOptions

__all__ = ["OpenVinoSession"]

_DEFAULTS: Final = SessionOptions()

_TYPES: Final = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.FP16: "f16", Precision.INT8: "f32"}
"""Inference-precision hint. Without one, OpenVINO uses bf16 on CPUs that support it. int8 graphs carry their types."""

_EXECUTED: Final = {
    Precision.FP32: {"f32"},
    Precision.BF16: {"bf16"},
    Precision.FP16: {"f16"},
    Precision.INT8: {"i8", "f32"},  # attention and keyed weights stay float32
}
"""Expected types of the matrix products in the executed model. Those with keyed tensors may be float32 instead."""

_PRODUCTS: Final = ("FullyConnected", "MatMul", "ScaledDotProductAttention")
_FUSED: Final = "Subgraph"
"""OpenVINO's fused layer, which may contain matrix products."""

_FIELDS: Final = ("layerType", "originalLayersNames", "runtimePrecision")
"""Runtime information of an executed layer."""

_SHORT: Final = {"uint8": "u8", "int64": "i64", "float16": "f16", "float32": "f32"}


class OpenVinoSession(BankedSession):
    """A graph in OpenVINO, on the CPU.

    Args:
        graph: the graph and its files, as they were read and checked; OpenVINO opens none of them itself.
        model: model of the artifact that the graph belongs to.
        engine: record of the engine; computing in another precision than its own is an error.
        options: threads of one inference, keys in memory.
        folders: key folders that cold keys are loaded from; without them, keys are put into the bank.

    Raises:
        SessionError: OpenVINO refuses the graph, this CPU does not support the precision, or the graph does not
            match the manifest.
        MissingDependencyError: OpenVINO is not installed.
    """

    def __init__(
        self,
        graph: GraphSource,
        model: ModelSpec,
        engine: EngineRecord,
        options: SessionOptions = _DEFAULTS,
        *,
        folders: KeyFolders | None = None,
    ) -> None:
        with require("running this engine needs OpenVINO", extra="openvino"):
            import openvino
        self._version = openvino.__version__.partition("-")[0]
        wanted = {"INFERENCE_PRECISION_HINT": _TYPES[engine.precision], "PERFORMANCE_HINT": "LATENCY"}
        if options.threads is not None:
            wanted["INFERENCE_NUM_THREADS"] = str(options.threads)
        core, self._files = openvino.Core(), read_graph(graph)
        try:
            graph_model = _read(core, self._files)
            compiled = core.compile_model(graph_model, "CPU", wanted)
        except RuntimeError as error:
            raise SessionError(f"OpenVINO cannot open {self._files.path}: {error}") from None
        self._files.require_unchanged()
        _require_executed(compiled, engine.precision, keyed=_keyed_products(graph_model))
        _require_capability(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"), engine.precision)
        _check_graph(compiled, model)
        self._request, self._lock = compiled.create_infer_request(), threading.Lock()
        self._memory = HostMemory(model.bank, options.max_keys)
        super().__init__(model, engine, memory=self._memory, rows=options.max_keys, folders=folders)

    @property
    def device(self) -> str:
        """Runtime and hardware."""
        return f"openvino {self._version}, {cpu_name()}"

    def _compute(self, values: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        from openvino import Tensor

        clips = clip_arrays(self._model, values).items()
        bank, places = self._memory.subset(rows)  # for bf16 and fp16, OpenVINO converts every row that it is given
        feed = {KEY_INPUT: places, **{name: np.ascontiguousarray(array) for name, array in clips}}
        try:
            with self._lock:  # the request owns the output's memory until it is copied
                for name, array in bank.items():
                    self._request.set_tensor(name, Tensor(array, shared_memory=True))
                answers = self._request.infer(feed)
                return np.array(answers[self._model.output.name], dtype=np.float32)
        except RuntimeError as error:
            raise SessionError(f"OpenVINO failed: {error}") from None


def _check_graph(compiled: Any, model: ModelSpec) -> None:
    specs = (*graph_inputs(model), model.output)
    expected = [(tensor.name, _SHORT.get(tensor.dtype), tensor.shape) for tensor in specs]
    received = [
        (port.any_name, port.element_type.to_string(), _shape(port)) for port in (*compiled.inputs, *compiled.outputs)
    ]
    if received != expected:
        raise SessionError(f"the graph has {received}, but its manifest says {expected}")


def _read(core: Any, files: GraphFiles) -> Any:
    """Return the model of a graph with its weights, which share the memory of ``files``.

    OpenVINO takes no external data from memory. So the large weights are inputs of the graph that it reads, and become
    constants before it compiles anything.
    """
    from openvino import op

    graph, weights = inputs_for_weights(files)
    model = core.read_model(graph)
    for parameter in list(model.get_parameters()):
        name = parameter.get_friendly_name()
        if name in weights:
            constant = op.Constant(weights[name], shared_memory=True)
            constant.set_friendly_name(name)
            parameter.output(0).replace(constant.output(0))
            model.remove_parameter(parameter)
    return model


def _shape(port: Any) -> tuple[int | None, ...]:
    return tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)


def _require_executed(model: Any, precision: Precision, *, keyed: set[str]) -> None:
    """Check the types. If the CPU lacks the requested type, OpenVINO silently uses another."""
    types = _product_types(model)
    rest = {used for names, used in types if not keyed & names}
    of_keyed = {used for names, used in types if keyed & names}
    if rest != _EXECUTED[precision] or not of_keyed <= {*rest, "f32"}:
        raise SessionError(
            f"expected OpenVINO to compute with {precision}, but on this CPU, {cpu_name()}, it uses "
            f"{', '.join(sorted(rest | of_keyed))}",
            hint="choose a precision that this CPU supports",
        )


def _require_capability(capabilities: list[str], precision: Precision) -> None:
    """Check the CPU. OpenVINO silently emulates bf16 on CPUs that have AVX-512 without bf16."""
    if precision.upper() not in capabilities:
        raise SessionError(
            f"expected OpenVINO to compute with {precision}, but this CPU, {cpu_name()}, does not support it, and "
            "OpenVINO would emulate it",
            hint="choose another precision",
        )


def _keyed_products(model: Any) -> set[str]:
    """Return the names of the products with keyed tensors, which the graph gathers from the bank."""
    bank = [value for value in model.get_parameters() if value.get_friendly_name().startswith(BANK_PREFIX)]
    readers = [reader for value in bank for gather in _readers(value) for reader in _readers(gather)]
    return {reader.get_friendly_name() for reader in readers if reader.get_type_name() == "MatMul"}


def _readers(node: Any) -> list[Any]:
    return [place.get_node() for output in node.outputs() for place in output.get_target_inputs()]


def _product_types(model: Any) -> list[tuple[set[str], str]]:
    """Return the names and the type of each matrix product, or of products that are fused, in the executed model."""
    types = []
    for node in model.get_runtime_model().get_ops():
        kind, names, used = (node.get_rt_info()[field].astype(str) for field in _FIELDS)
        if kind in _PRODUCTS or (kind == _FUSED and "MatMul" in names):
            types.append((set(names.split(",")), used))
    return types
