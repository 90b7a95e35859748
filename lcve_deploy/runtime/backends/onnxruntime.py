"""Sessions on ONNX Runtime, with the execution provider that was asked for or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineRecord, ModelSpec
from lcve_deploy.artifact.keyed import KEYED
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import SessionError
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.libraries.onnxruntime import load_onnxruntime
from lcve_deploy.runtime.cpu import cpu_name
from lcve_deploy.runtime.session import Provider, SessionOptions, check_clip

__all__ = ["OnnxRuntimeSession"]

_DEFAULTS: Final = SessionOptions()

_NAMES: Final = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
    Provider.TENSORRT_RTX: "NvTensorRTRTXExecutionProvider",
}


class OnnxRuntimeSession:
    """A graph in ONNX Runtime.

    Args:
        graph: the ``.onnx`` file; its digest has been checked.
        model: of the artifact that it belongs to.
        options: its provider, where another one in its place is an error; provider options and threads; and
            ``mapped``, without which files next to the graph are read as a whole, and may change later.
        engine: record of the engine that the graph belongs to; None for the artifact's own graph.

    Raises:
        SessionError: ONNX Runtime refuses the graph, the provider cannot be had, or the graph is not
            what the manifest says.
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        graph: Path,
        model: ModelSpec,
        options: SessionOptions = _DEFAULTS,
        *,
        engine: EngineRecord | None = None,
    ) -> None:
        onnxruntime = load_onnxruntime("running an artifact")
        self._model, self._engine, self._provider = model, engine, options.provider
        name = _require_available(options.provider, onnxruntime.get_available_providers())
        settings = onnxruntime.SessionOptions()
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        files = [] if options.mapped else _in_memory(settings, graph)
        try:
            providers = [(name, dict(options.provider_options))]
            self._session = onnxruntime.InferenceSession(graph, settings, providers=providers)
        except _errors() as error:
            raise SessionError(f"ONNX Runtime cannot open {graph}: {error}") from None
        del files  # which had to outlive the opening
        self._require_in_use(name)
        if options.provider is not Provider.CPU:
            self._require_products_on(name)
        self._check_graph()
        self._version, self._gpu = onnxruntime.__version__, options.provider_options.get("device_id", "0")

    @property
    def model(self) -> ModelSpec:
        """What the model takes and gives."""
        return self._model

    @property
    def engine(self) -> EngineRecord | None:
        """Record of the engine; None for the artifact's own graph."""
        return self._engine

    @property
    def device(self) -> str:
        """Runtime, provider and hardware."""
        hardware = cpu_name() if self._provider is Provider.CPU else f"{find_gpu()}, device {self._gpu}"
        return f"onnxruntime {self._version}, {_NAMES[self._provider]}, {hardware}"

    def run(self, clip: EncryptedClip) -> npt.NDArray[np.float32]:
        """Logits ``[clips, classes]`` (float32) in the artifact's own label order."""
        check_clip(clip, self._model)
        feed = {self._model.input.name: np.ascontiguousarray(clip.values)}
        try:
            (logits,) = self._session.run([self._model.output.name], feed)
        except _errors() as error:
            raise SessionError(f"ONNX Runtime failed: {error}") from None
        result: npt.NDArray[np.float32] = np.asarray(logits)
        return result

    def _require_in_use(self, name: str) -> None:
        """ONNX Runtime takes the CPU, with a warning only, where a provider cannot start."""
        used = self._session.get_providers()[0]
        if used != name:
            raise SessionError(
                f"expected {name}, but ONNX Runtime could not start it and took {used}",
                hint="check the GPU, its driver and the provider's libraries, or ask for another: --provider cpu",
            )

    def _require_products_on(self, name: str) -> None:
        """A provider can be there and still leave the work to the CPU; versions that cannot tell are believed."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return
        parts = [part for part in self._session.get_provider_graph_assignment_info() if part.ep_name != name]
        left = [node.name for part in parts for node in part.get_nodes() if node.op_type == "MatMul"]
        if left:
            raise SessionError(
                f"expected {name} to compute the graph, but it left {len(left)} of its matrix products to others",
                hint="ask for another provider, or another precision",
            )

    def _check_graph(self) -> None:
        received = [(node.name, node.type, len(node.shape)) for node in self._nodes()]
        spec = (self._model.input, self._model.output)
        kinds = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
        expected = [(tensor.name, kinds.get(tensor.dtype, tensor.dtype), len(tensor.shape)) for tensor in spec]
        sizes = [tuple(node.shape[1:]) for node in self._nodes()]
        if received != expected or sizes != [tensor.shape[1:] for tensor in spec]:
            raise SessionError(f"the graph has {received}, its manifest says {expected}")

    def _nodes(self) -> list[Any]:
        return [*self._session.get_inputs(), *self._session.get_outputs()]


def _in_memory(settings: Any, graph: Path) -> list[bytes]:
    """Hand over the files beside a graph in memory; they must outlive the opening.

    A file that is mapped changes answers where it is overwritten in place, and kills the process where it is cut short.

    Raises:
        SessionError: this ONNX Runtime takes no files so.
    """
    paths = [path for path in (graph.parent / KEYED, graph.with_name(f"{graph.name}.data")) if path.is_file()]
    if not paths:
        return []
    if not hasattr(settings, "add_external_initializers_from_files_in_memory"):
        raise SessionError(
            "this ONNX Runtime can only map the files of a graph, which a server must not do",
            hint="pip install --upgrade onnxruntime (1.24 or newer)",
        )
    files = [path.read_bytes() for path in paths]
    settings.add_external_initializers_from_files_in_memory([path.name for path in paths], files, [*map(len, files)])
    return files


def _require_available(provider: Provider, available: list[str]) -> str:
    name = _NAMES[provider]
    if name not in available:
        raise SessionError(
            f"this ONNX Runtime has no {name}; it has: {', '.join(available)}",
            hint="install the package that has it: lcve-deploy[gpu] in place of lcve-deploy[cpu]",
        )
    return name


def _errors() -> tuple[type[Exception], ...]:
    """Everything that ONNX Runtime raises; its own errors have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)
