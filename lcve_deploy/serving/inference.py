"""Inference requests, independent of the protocol: validate the request, run the model, return the logits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import ModelSpec
from lcve_deploy.clips import Binding, EncryptedClip
from lcve_deploy.errors import EncryptedClipError, RequestError
from lcve_deploy.packing import count_packed, unpack
from lcve_deploy.serving.models.batching import BatchResult
from lcve_deploy.serving.models.keys import AllowedKeys
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.models.served import ServedModel
from lcve_deploy.serving.shared_memory import ClientRegions, Slice

__all__ = [
    "InferRequest",
    "InferResponse",
    "PreparedRequest",
    "RequestedOutput",
    "Tensor",
    "clips_from",
    "infer",
    "prepare",
    "require_key",
    "values_of",
]

_UINT8: Final = "UINT8"
_MAX_SHOWN: Final = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """An input as received, before validation.

    Args:
        name, datatype, shape: as the client sent them.
        data: raw bytes, a list of JSON numbers, a flat uint8 array, or a slice of shared memory.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any


@dataclass(frozen=True, kw_only=True)
class RequestedOutput:
    """An output that a client requests, and how to return it.

    Args:
        name: as the client sent it.
        destination: slice of shared memory to write into; None to return the output in the response.
        binary: whether to return raw bytes rather than JSON. HTTP only.
    """

    name: str
    destination: Slice | None = None
    binary: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class InferRequest:
    """An inference request.

    Args:
        model: model name.
        version: version number as text; empty for the highest served version.
        id: request id of the client, returned in the response.
        inputs: input tensors.
        outputs: requested outputs; empty for all outputs of the model.
        binding: what the clips were encrypted for, which names their key; None if the client does not send it.
        timeout: seconds until the request fails; None for no limit.
        arrived: when all of it had arrived, in monotonic seconds.
    """

    model: str
    version: str
    id: str
    inputs: Sequence[Tensor]
    outputs: Sequence[RequestedOutput]
    binding: Binding | None
    timeout: float | None
    arrived: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True, eq=False)
class InferResponse:
    """Result of a request.

    Args:
        model: model version that answered.
        result: logits with timings.
        output: how to return them.
        sealed: the answer to a sealed request, which is returned in place of the logits.
        seconds: from the complete request to its answer.
    """

    model: ServedModel
    result: BatchResult
    output: RequestedOutput
    sealed: bytes | None = None
    seconds: float = 0.0

    @property
    def microseconds(self) -> int:
        """Microseconds from the complete request to its answer."""
        return round(self.seconds * 1e6)

    @property
    def datatype(self) -> str:
        """Datatype of the output."""
        return "FP32" if self.sealed is None else _UINT8

    @property
    def values(self) -> npt.NDArray[np.float32] | npt.NDArray[np.uint8]:
        """Values of the output, contiguous and little-endian."""
        if self.sealed is not None:
            return np.frombuffer(self.sealed, np.uint8)
        return np.ascontiguousarray(self.logits, dtype="<f4")

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """Logits of the request's clips, float32 ``[clips, classes]``."""
        return self.result.logits


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedRequest:
    """A valid request: only this is kept while it waits for its run, so what it was parsed from can be released.

    Args:
        model: model version that answers.
        clip: clips of the request, uint8 ``[batch, ...]`` or records ``[batch]``, with their key.
        id, timeout, arrived: see ``InferRequest``.
        output: requested output.
    """

    model: ServedModel
    clip: EncryptedClip
    id: str
    timeout: float | None
    arrived: float
    output: RequestedOutput

    @property
    def key_name(self) -> str:
        """Name of the key's folder, for the log."""
        return self.model.keys.name_of(self.clip.binding.key)


async def prepare(
    request: InferRequest, registry: Registry, regions: ClientRegions, *, allowed: AllowedKeys, binary: bool = True
) -> PreparedRequest:
    """Validate a request. Its key is checked before its clips are read. Packed clips are unpacked in a thread.

    Args:
        request: request as received.
        registry: models of the server.
        regions: shared memory regions of the client.
        allowed: keys that the client may use.
        binary: whether to return raw bytes if the request names no output. HTTP only.

    Raises:
        UnknownModelError: no such model, version or shared memory region.
        UnknownKeyError: the model has no such key, or the client may not use it.
        RequestError: the inputs or outputs are not those of the model, or the request does not say which key it needs.
        MismatchError: the clips were encrypted for another model.
        UnavailableError: no version is loaded, or the key has not been checked yet.
    """
    model = registry.get(request.model, request.version)
    output = _requested_output(request.outputs, model, binary)
    binding = request.binding or model.spec.binding_of(model.keys.only(allowed))
    require_key(binding, model, allowed)
    received = clips_from(request.inputs, model.spec, model.max_batch, regions)
    values = await _unpacked(received, model) if model.spec.packed else received
    clip = EncryptedClip(values=values, binding=binding)
    return PreparedRequest(
        model=model, clip=clip, id=request.id, timeout=request.timeout, arrived=request.arrived, output=output
    )


async def _unpacked(packed: npt.NDArray[np.uint8], model: ServedModel) -> npt.NDArray[np.void]:
    geometry = model.spec.geometry
    try:
        clips = count_packed(packed.data, limit=model.max_batch)
        records = await asyncio.to_thread(unpack, packed.data, geometry, clips=clips)
    except EncryptedClipError as error:
        raise RequestError(str(error), hint="pack the clips as the format says, and split large batches") from None
    model.record_packed(clips, packed.nbytes)
    return records


def require_key(binding: Binding, model: ServedModel, allowed: AllowedKeys) -> None:
    """Check that a model can answer clips, and that the client may use their key.

    Raises:
        MismatchError: the clips were encrypted for another model.
        UnknownKeyError, UnavailableError: see ``ServedKeys.require``.
    """
    model.spec.require(binding, here="model", there="encrypted clip")
    model.keys.require(binding.key, allowed)


async def infer(request: PreparedRequest, regions: ClientRegions) -> InferResponse:
    """Run the model, and write the logits to shared memory if the client requests it.

    Args:
        request: valid request.
        regions: shared memory regions of the server.

    Raises:
        UnknownModelError: no such shared memory region.
        UnavailableError: the queue is full.
        DeadlineError: the request timed out.
        SessionError: the engine failed.
    """
    result, output = await request.model.answer(request.clip, request.timeout), request.output
    if output.destination is not None:
        regions.write(output.destination, np.ascontiguousarray(result.logits, dtype="<f4").tobytes())
    return InferResponse(model=request.model, result=result, output=output)


def _requested_output(outputs: Sequence[RequestedOutput], model: ServedModel, binary: bool) -> RequestedOutput:
    expected = model.spec.output.name
    for output in outputs:
        if output.name != expected:
            raise RequestError(f"model {model.name} has no output {output.name[:200]!r}; its output is {expected}")
    if len(outputs) > 1:
        raise RequestError(f"expected the output {expected} once, received it {len(outputs)} times")
    return outputs[0] if outputs else RequestedOutput(name=expected, binary=binary)


def clips_from(
    inputs: Sequence[Tensor], model: ModelSpec, max_batch: int, regions: ClientRegions
) -> npt.NDArray[np.uint8]:
    """Return the clips of a request, uint8 ``[batch, ...]`` in the model's input shape, or ``[bytes]`` if packed.

    Args:
        inputs: tensors as received.
        model: specification of the model's input.
        max_batch: maximum clips of one request.
        regions: shared memory regions of the client.

    Raises:
        RequestError: the input's name, dtype, shape or number of values is invalid.
        UnknownModelError: no such shared memory region.
    """
    spec = model.request_input
    names = [tensor.name[:200] for tensor in inputs]
    if names != [spec.name]:
        raise RequestError(f"expected one input, {spec.name}, received {names[:_MAX_SHOWN]}")
    (tensor,) = inputs
    if tensor.datatype != _UINT8:
        raise RequestError(f"expected datatype {_UINT8} for input {spec.name}, received {tensor.datatype[:20]!r}")
    expected = [size or -1 for size in spec.shape]
    if len(tensor.shape) != len(expected) or list(tensor.shape[1:]) != expected[1:]:
        raise RequestError(
            f"expected input {spec.name} of shape {expected}, received {list(tensor.shape[:_MAX_SHOWN])}"
        )
    if model.packed:
        return values_of(tensor, regions)
    if not 1 <= tensor.shape[0] <= max_batch:
        raise RequestError(f"expected 1 to {max_batch} clips, received {tensor.shape[0]}", hint="split the batch")
    return values_of(tensor, regions).reshape(tensor.shape)


def values_of(tensor: Tensor, regions: ClientRegions) -> npt.NDArray[np.uint8]:
    """Return the values of a tensor, flat.

    Raises:
        RequestError: not as many values as its shape has, or values that are not uint8.
        UnknownModelError: no such shared memory region.
    """
    if isinstance(tensor.data, list):
        values = _json_values(tensor.data)
        _require_size(tensor, values.size)
        return values
    _require_size(tensor, tensor.data.size if isinstance(tensor.data, Slice) else len(tensor.data))
    if isinstance(tensor.data, np.ndarray):
        return tensor.data
    return np.frombuffer(regions.read(tensor.data) if isinstance(tensor.data, Slice) else tensor.data, np.uint8)


def _require_size(tensor: Tensor, size: int) -> None:
    if size != prod(tensor.shape):
        raise RequestError(
            f"expected {prod(tensor.shape)} values for the shape {list(tensor.shape)} of input {tensor.name}, "
            f"received {size}"
        )


def _json_values(data: list[Any]) -> npt.NDArray[np.uint8]:
    """Return nested lists of integers as a flat uint8 array.

    Does not use ``np.array``, which would reserve the size of the longest string for every string in the lists.

    Raises:
        RequestError: the lists are ragged, or a value is not an integer from 0 to 255.
    """
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) and len(part) == len(data[0]) for part in data):
            raise RequestError("expected lists of equal lengths in a JSON tensor")
        data = list(chain.from_iterable(data))
    try:
        if set(map(type, data)) <= {int}:
            return np.frombuffer(bytes(data), np.uint8)
    except ValueError:  # a value is outside 0 to 255
        pass
    raise RequestError("expected integers from 0 to 255 in a UINT8 tensor")
