"""Check a server's description of a model before any clip is sent."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from lcve_deploy.artifact.model_spec import request_spec
from lcve_deploy.clips import Binding
from lcve_deploy.errors import MismatchError, RequestError
from lcve_deploy.model.output import ModelOutput, OutputKind
from lcve_deploy.protocol.binding import stated_binding
from lcve_deploy.protocol.stubs import config_messages
from lcve_deploy.remote.faults import shown
from lcve_deploy.remote.limits import MAX_CLASSES, MAX_TOKENS

__all__ = ["AgreedOutput", "RemoteModel", "check_model"]

_ANY: Final = -1
_MAX_CHARACTERS: Final = 200
"""Maximum characters of a server's field that are shown."""
_MAX_BINDING_CHARACTERS: Final = 1000
_MAX_TENSORS: Final = 8
"""Tensors that are compared; a model for clips has one input and one output."""


@dataclass(frozen=True, kw_only=True)
class RemoteModel:
    """A model on an endpoint, checked against the clips.

    Args:
        endpoint: ``host:port``.
        name: model name.
        versions: versions that the server offers.
        output: what the model answers for a clip.
        max_batch: maximum clips of one request; None if the server states no limit.
        bound: whether the server stated scheme, geometry and layout, so that it reads the key of each request or has
            stated its only key. If not, only shapes were compared, and a server with a model for another key would
            return meaningless logits.
    """

    endpoint: str
    name: str
    versions: tuple[str, ...]
    output: ModelOutput
    max_batch: int | None
    bound: bool


class AgreedOutput:
    """What a model answers for a clip, on which all servers of a session must agree. Threads may share it.

    Args:
        expected: as in ``client.json``; None accepts that of the first server.
    """

    def __init__(self, expected: ModelOutput | None) -> None:
        self._lock, self.expected = Lock(), expected

    def require(self, model: RemoteModel) -> None:
        """Compare a server's output with the expected one, or expect it from now on.

        Raises:
            MismatchError: another server, or this one earlier, had another output.
        """
        with self._lock:
            if self.expected is None:
                self.expected = model.output
            if self.expected != model.output:
                raise MismatchError(
                    f"the model on {model.endpoint} answers {model.output}, expected {self.expected} as before",
                    hint="check that all servers serve the same artifact, and that it has not been replaced",
                )


def check_model(
    metadata: Any, config: Any, binding: Binding, *, name: str, endpoint: str, output: ModelOutput | None = None
) -> RemoteModel:
    """Compare a server's description of a model with the binding of the clips.

    Args:
        metadata: ``ModelMetadataResponse``.
        config: ``ModelConfig``.
        binding: binding of the clips.
        name: model name in the address.
        endpoint: ``host:port``.
        output: expected output; None accepts the server's.

    Raises:
        MismatchError: the model is another one, or is for clips of another artifact. Lists everything that differs.
    """
    theirs = _binding(config, binding, endpoint)
    if theirs is not None:
        _require_same(theirs, binding)
    output = output or _output(metadata, binding)
    largest = config.max_batch_size or None
    asked = request_spec(binding.scheme, binding.geometry, binding.layout)
    received = {
        "names": (metadata.name, config.name),
        "inputs": _tensors(metadata.inputs),
        "outputs": _tensors(metadata.outputs),
        "configured inputs": _configured(config.input),
        "configured outputs": _configured(config.output),
    }
    batch = [] if largest else [_ANY]
    expected = {
        "names": (name, name),
        "inputs": [(asked.name, "UINT8", [size or _ANY for size in asked.shape])],
        "outputs": [(output.kind.value, "FP32", [_ANY, *output.shape])],
        "configured inputs": [(asked.name, "TYPE_UINT8", [*batch, *asked.shape[1:]] or [_ANY])],
        "configured outputs": [(output.kind.value, "TYPE_FP32", [*batch, *output.shape])],
    }
    differing = [
        f"{what} {str(received[what])[:_MAX_CHARACTERS]}, expected {expected[what]}"
        for what in received
        if received[what] != expected[what]
    ]
    if differing or config.max_batch_size < 0:
        raise MismatchError(
            f"the model on {endpoint} is not for these clips: {'; '.join(differing)}",
            hint="check the address, and that the server serves the server/ folder that belongs to this client/ folder",
        )
    return RemoteModel(
        endpoint=endpoint,
        name=name,
        versions=tuple(metadata.versions),
        output=output,
        max_batch=largest,
        bound=theirs is not None,
    )


def _binding(config: Any, ours: Binding, endpoint: str) -> Binding | None:
    try:
        return stated_binding({name: value.string_value for name, value in config.parameters.items()}, ours.key)
    except RequestError as error:
        raise MismatchError(f"{endpoint} states an invalid binding: {shown(str(error))}") from None


def _require_same(theirs: Binding, ours: Binding) -> None:
    try:
        theirs.require(ours, here="model on the server", there="encrypted clip")
    except MismatchError as error:
        raise MismatchError(shown(str(error), _MAX_BINDING_CHARACTERS), hint=error.hint) from None


def _output(metadata: Any, binding: Binding) -> ModelOutput:
    """Return the first output, with sizes within limits, so that one beyond them differs from it."""
    name, sizes = next(((output.name, list(output.shape[1:])) for output in metadata.outputs), ("", []))
    kind = next((kind for kind in OutputKind if kind == name), OutputKind.LOGITS)
    width = min(max([1, *sizes[-1:]]), MAX_CLASSES)
    if not kind.has_tokens:
        return ModelOutput(kind=kind, shape=(width,))
    cubes = binding.geometry.cubes
    return ModelOutput(kind=kind, shape=(min(max([cubes, *sizes[:1]]), cubes + MAX_TOKENS), width))


def _tensors(tensors: Any) -> list[tuple[str, str, list[int]]]:
    return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in tensors[:_MAX_TENSORS]]


def _configured(tensors: Any) -> list[tuple[str, str, list[int]]]:
    kinds = config_messages().DataType
    return [
        (t.name, kinds.Name(t.data_type) if t.data_type in kinds.values() else "", list(t.dims))
        for t in tensors[:_MAX_TENSORS]
    ]
