"""An inference request, whatever protocol it came by: checked, answered, its logits packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import ModelSpec
from lcve_deploy.clips import Binding
from lcve_deploy.errors import RequestError
from lcve_deploy.serving.models.batching import BatchResult
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.models.served import ServedModel
from lcve_deploy.serving.shared_memory import Regions, Slice

__all__ = ["InferRequest", "InferResponse", "RequestedOutput", "Tensor", "clips_from", "infer"]

_UINT8: Final = "UINT8"
_MAX_SHOWN: Final = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """An input as it came: raw bytes, a list of JSON numbers, or a part of shared memory."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any


@dataclass(frozen=True, kw_only=True)
class RequestedOutput:
    """An output that is asked for, and where it goes: a part of shared memory, raw bytes, or JSON."""

    name: str
    destination: Slice | None = None
    binary: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class InferRequest:
    """One request.

    Args:
        model: name.
        version: as text; empty for the highest.
        id: the client's own, given back with the answer.
        inputs: tensors.
        outputs: outputs; none for all of them.
        binding: what the clips were encrypted for; None where the client does not say.
        timeout: seconds that it may take; None for any time.
    """

    model: str
    version: str
    id: str
    inputs: Sequence[Tensor]
    outputs: Sequence[RequestedOutput]
    binding: Binding | None
    timeout: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class InferResponse:
    """Logits ``[clips, classes]`` (float32) of a request, by whom, and where they go."""

    model: ServedModel
    result: BatchResult
    output: RequestedOutput

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """Of the request's clips."""
        return self.result.logits


async def infer(request: InferRequest, registry: Registry, regions: Regions, *, binary: bool = True) -> InferResponse:
    """Answer a request.

    Args:
        request: as it came.
        registry: of the models.
        regions: of shared memory.
        binary: how the output goes back where the request names none.

    Raises:
        UnknownModelError: no such model or version.
        RequestError: not the model's inputs or outputs.
        MismatchError: the clips were encrypted for another artifact.
        UnavailableError: no version is loaded, or the queue is full.
        DeadlineError: not answered in time.
        SessionError: the engine failed.
    """
    model = registry.get(request.model, request.version)
    output = _requested_output(request.outputs, model, binary)
    if request.binding is not None:
        model.spec.binding.require(request.binding, here="artifact", there="encrypted clip")
    result = await model.answer(clips_from(request.inputs, model.spec, model.max_batch, regions), request.timeout)
    if output.destination is not None:
        regions.write(output.destination, np.ascontiguousarray(result.logits, dtype="<f4").tobytes())
    return InferResponse(model=model, result=result, output=output)


def _requested_output(outputs: Sequence[RequestedOutput], model: ServedModel, binary: bool) -> RequestedOutput:
    expected = model.spec.output.name
    for output in outputs:
        if output.name != expected:
            raise RequestError(
                f"unexpected inference output {output.name[:200]!r} for model {model.name}, not {expected}"
            )
    if len(outputs) > 1:
        raise RequestError(f"the output {expected} is asked for {len(outputs)} times")
    return outputs[0] if outputs else RequestedOutput(name=expected, binary=binary)


def clips_from(inputs: Sequence[Tensor], model: ModelSpec, max_batch: int, regions: Regions) -> npt.NDArray[np.uint8]:
    """The clips of a request, uint8 ``[batch, ...]`` of the model's shape.

    Args:
        inputs: as they came.
        model: what it takes.
        max_batch: clips of one request.
        regions: of shared memory.

    Raises:
        RequestError: not one input of that name, dtype and shape, or not as many values.
    """
    spec = model.input
    names = [tensor.name[:200] for tensor in inputs]
    if names != [spec.name]:
        raise RequestError(f"expected one input, {spec.name}, received {names[:_MAX_SHOWN]}")
    (tensor,) = inputs
    if tensor.datatype != _UINT8:
        raise RequestError(f"input {spec.name} is {_UINT8}, received {tensor.datatype[:20]!r}")
    expected = [size or -1 for size in spec.shape]
    if len(tensor.shape) != len(expected) or list(tensor.shape[1:]) != expected[1:]:
        raise RequestError(f"input {spec.name} has shape {expected}, received {list(tensor.shape[:_MAX_SHOWN])}")
    if not 1 <= tensor.shape[0] <= max_batch:
        raise RequestError(f"expected 1 to {max_batch} clips, received {tensor.shape[0]}", hint="divide the batch")
    return _values(tensor, regions).reshape(tensor.shape)


def _values(tensor: Tensor, regions: Regions) -> npt.NDArray[np.uint8]:
    if isinstance(tensor.data, list):
        values = _json_values(tensor.data)
        _require_size(tensor, values.size)
        return values
    _require_size(tensor, tensor.data.size if isinstance(tensor.data, Slice) else len(tensor.data))
    return np.frombuffer(regions.read(tensor.data) if isinstance(tensor.data, Slice) else tensor.data, np.uint8)


def _require_size(tensor: Tensor, size: int) -> None:
    if size != prod(tensor.shape):
        raise RequestError(
            f"input {tensor.name} of shape {list(tensor.shape)} has {prod(tensor.shape)} values, received {size}"
        )


def _json_values(data: list[Any]) -> npt.NDArray[np.uint8]:
    """Numbers 0..255, in lists of any depth. NumPy would reserve the longest text's size for all texts."""
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) and len(part) == len(data[0]) for part in data):
            raise RequestError("the lists of a tensor have different lengths")
        data = list(chain.from_iterable(data))
    try:
        if set(map(type, data)) <= {int}:
            return np.frombuffer(bytes(data), np.uint8)
    except ValueError:  # outside 0..255
        pass
    raise RequestError("a UINT8 tensor has whole numbers from 0 to 255")
