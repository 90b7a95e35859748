"""Check a server's description of a model before any clip is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy.artifact.names import INPUT, OUTPUT
from lcve_deploy.clips import Binding
from lcve_deploy.errors import MismatchError, RequestError
from lcve_deploy.protocol.binding import binding_from_parameters
from lcve_deploy.protocol.stubs import config_messages

__all__ = ["RemoteModel", "check_model"]

_ANY: Final = -1


@dataclass(frozen=True, kw_only=True)
class RemoteModel:
    """A model on an endpoint, checked against the clips.

    Args:
        endpoint: ``host:port``.
        name: model name.
        versions: versions that the server offers.
        classes: logits per clip.
        largest_batch: maximum clips of one request; None if the server states no limit.
        bound: whether the server stated the binding. If not, only shapes were compared, and a server with a model
            for another key would return meaningless logits.
    """

    endpoint: str
    name: str
    versions: tuple[str, ...]
    classes: int
    largest_batch: int | None
    bound: bool


def check_model(
    metadata: Any, config: Any, binding: Binding, *, name: str, endpoint: str, classes: int | None = None
) -> RemoteModel:
    """Compare a server's description of a model with the binding of the clips.

    Args:
        metadata: ``ModelMetadataResponse``.
        config: ``ModelConfig``.
        binding: binding of the clips.
        name: model name in the address.
        endpoint: ``host:port``.
        classes: expected logits per clip; None accepts the server's number.

    Raises:
        MismatchError: the model is another one, or is for clips of another artifact. Lists everything that differs.
    """
    theirs = _binding(config, endpoint)
    if theirs is not None:
        theirs.require(binding, here="model on the server", there="encrypted clip")
    classes = _classes(metadata) if classes is None else classes
    largest = config.max_batch_size or None
    shape = list(binding.layout.shape(binding.geometry))
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
        "inputs": [(INPUT, "UINT8", [_ANY, *shape])],
        "outputs": [(OUTPUT, "FP32", [_ANY, classes])],
        "configured inputs": [(INPUT, "TYPE_UINT8", [*batch, *shape])],
        "configured outputs": [(OUTPUT, "TYPE_FP32", [*batch, classes])],
    }
    differing = [
        f"{what} {str(received[what])[:200]}, expected {expected[what]}"
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
        classes=classes,
        largest_batch=largest,
        bound=theirs is not None,
    )


def _binding(config: Any, endpoint: str) -> Binding | None:
    try:
        return binding_from_parameters({name: value.string_value for name, value in config.parameters.items()})
    except RequestError as error:
        raise MismatchError(f"{endpoint} states an invalid binding: {error}") from None


def _classes(metadata: Any) -> int:
    """Return the last size of the first output, at least 1, so that a malformed one differs from what is expected."""
    sizes: list[int] = [size for output in metadata.outputs[:1] for size in output.shape[-1:]]
    return max([1, *sizes])


def _tensors(tensors: Any) -> list[tuple[str, str, list[int]]]:
    return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in tensors]


def _configured(tensors: Any) -> list[tuple[str, str, list[int]]]:
    kinds = config_messages().DataType
    return [(t.name, kinds.Name(t.data_type) if t.data_type in kinds.values() else "", list(t.dims)) for t in tensors]
