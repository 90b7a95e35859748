"""Sessions on ONNX Runtime's CPU provider, the embedded default."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import Manifest
from lcve_deploy.artifact.manifest import MODEL
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import MissingDependencyError, SessionError
from lcve_deploy.runtime.session import check_clip

__all__ = ["OnnxRuntimeSession"]

_PROVIDER: Final = "CPUExecutionProvider"


class OnnxRuntimeSession:
    """``model.onnx`` in ONNX Runtime.

    Args:
        server: the server folder; its digests have been checked.
        manifest: its manifest.
        threads: threads of one inference; None for ONNX Runtime's choice.

    Raises:
        SessionError: ONNX Runtime refuses the model, or the graph is not what the manifest says.
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(self, server: Path, manifest: Manifest, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                "running an artifact needs ONNX Runtime", hint="pip install 'lcve-deploy[cpu]'"
            ) from error
        self._manifest = manifest
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(server / MODEL, options, providers=[_PROVIDER])
        except _errors() as error:
            raise SessionError(f"ONNX Runtime cannot open {server / MODEL}: {error}") from None
        self._check_graph()

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self._manifest

    def run(self, clip: EncryptedClip) -> npt.NDArray[np.float32]:
        """Logits ``[batch, classes]`` (float32) in the artifact's own label order."""
        check_clip(clip, self._manifest)
        feed = {self._manifest.input.name: np.ascontiguousarray(clip.values)}
        try:
            (logits,) = self._session.run([self._manifest.output.name], feed)
        except _errors() as error:
            raise SessionError(f"ONNX Runtime failed: {error}") from None
        result: npt.NDArray[np.float32] = np.asarray(logits)
        return result

    def _check_graph(self) -> None:
        received = [(node.name, node.type, len(node.shape)) for node in self._nodes()]
        spec = (self._manifest.input, self._manifest.output)
        kinds = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
        expected = [(tensor.name, kinds.get(tensor.dtype, tensor.dtype), len(tensor.shape)) for tensor in spec]
        sizes = [tuple(node.shape[1:]) for node in self._nodes()]
        if received != expected or sizes != [tensor.shape[1:] for tensor in spec]:
            raise SessionError(f"the graph has {received}, its manifest says {expected}")

    def _nodes(self) -> list[Any]:
        return [*self._session.get_inputs(), *self._session.get_outputs()]


def _errors() -> tuple[type[Exception], ...]:
    """Everything that ONNX Runtime raises; its own errors have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)
