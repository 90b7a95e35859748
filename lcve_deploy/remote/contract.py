"""What a server must say of a model before a clip is sent to it."""

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
    """A model at an endpoint that has been checked.

    Args:
        endpoint: ``host:port``.
        name: of the model.
        versions: that the server has.
        classes: logits of a clip.
        largest_batch: clips of one request; None where the server says no limit.
        bound: whether the server named the binding. If not, only shapes were compared, and a server that has the
            model of another key answers too, with noise.
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
    """Compare what a server says of a model with the binding of the clips.

    Args:
        metadata: ``ModelMetadataResponse``.
        config: ``ModelConfig``.
        binding: of the clips.
        name: of the model, as in the address.
        endpoint: ``host:port``.
        classes: logits of a clip that are expected; None for as many as the server says.

    Raises:
        MismatchError: another model, or one for clips of another artifact; names everything that differs.
    """
    theirs = _binding(config, endpoint)
    if theirs is not None:
        theirs.require(binding, here="model at the server", there="encrypted clip")
    classes = _classes(metadata) if classes is None else classes
    largest = config.max_batch_size or None
    shape = list(binding.layout.shape(binding.geometry))
    said = {
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
        f"{what} {str(said[what])[:200]}, expected {expected[what]}" for what in said if said[what] != expected[what]
    ]
    if differing or config.max_batch_size < 0:
        raise MismatchError(
            f"{endpoint} has a model that these clips are not for: {'; '.join(differing)}",
            hint="check the address, and that the server has the server/ of this client/",
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
        raise MismatchError(f"{endpoint} names a binding that is none: {error}") from None


def _classes(metadata: Any) -> int:
    """As the first output says; 1 at least, so that anything else differs from what is expected."""
    sizes: list[int] = [size for output in metadata.outputs[:1] for size in output.shape[-1:]]
    return max([1, *sizes])


def _tensors(tensors: Any) -> list[tuple[str, str, list[int]]]:
    return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in tensors]


def _configured(tensors: Any) -> list[tuple[str, str, list[int]]]:
    kinds = config_messages().DataType
    return [(t.name, kinds.Name(t.data_type) if t.data_type in kinds.values() else "", list(t.dims)) for t in tensors]
