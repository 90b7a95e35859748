"""Inference messages of gRPC to requests, and answers to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lcve_deploy.errors import RequestError
from lcve_deploy.protocol.binding import binding_from_parameters
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.inference import Answer, InferRequest, RequestedOutput, Tensor, require_int
from lcve_deploy.serving.shared_memory import Slice

__all__ = ["from_message", "output_from", "plain_parameters", "slice_from", "timeout_from", "to_message"]

_REGION: Final = "shared_memory_region"
_SIZE: Final = "shared_memory_byte_size"
_OFFSET: Final = "shared_memory_offset"
_CLASSES: Final = "classification"


def from_message(message: Any, raw: Sequence[bytes | memoryview]) -> InferRequest:
    """Read a ``ModelInferRequest``.

    Args:
        message: itself, with or without its raw tensors.
        raw: its ``raw_input_contents``.

    Raises:
        RequestError: parts that contradict each other.
    """
    parameters = plain_parameters(message.parameters)
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        inputs=_inputs(message, raw),
        wishes=[_wish(output.name, plain_parameters(output.parameters)) for output in message.outputs],
        binding=binding_from_parameters(parameters),
        timeout=timeout_from(parameters),
    )


def to_message(answer: Answer, request_id: str) -> Any:
    """Write a ``ModelInferResponse``; logits that went into shared memory are not in it."""
    message = messages().ModelInferResponse(
        model_name=answer.model.name, model_version=answer.model.version, id=request_id
    )
    output = message.outputs.add(name=answer.wish.name, datatype="FP32", shape=answer.logits.shape)
    data = np.ascontiguousarray(answer.logits, dtype="<f4").tobytes()
    if answer.wish.place is None:
        message.raw_output_contents.append(data)
    else:
        output.parameters[_REGION].string_param = answer.wish.place.region
        output.parameters[_SIZE].int64_param = len(data)
        output.parameters[_OFFSET].int64_param = answer.wish.place.offset
    return message


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of protobuf as plain values."""
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], field) for name, field in chosen.items() if field}


def slice_from(parameters: Mapping[str, Any]) -> Slice | None:
    """The part of shared memory that parameters name; None where they name none.

    Raises:
        RequestError: no size, or numbers that are none.
    """
    if _REGION not in parameters:
        return None
    return Slice(
        region=str(parameters[_REGION]),
        offset=require_int(parameters.get(_OFFSET, 0), _OFFSET),
        size=require_int(parameters.get(_SIZE), _SIZE),
    )


def timeout_from(parameters: Mapping[str, Any]) -> float | None:
    """Seconds of the parameter ``timeout``, which is in microseconds; None for any time."""
    microseconds = require_int(parameters.get("timeout", 0), "timeout")
    return microseconds / 1e6 or None


def output_from(name: str, parameters: Mapping[str, Any], *, binary: bool) -> RequestedOutput:
    """An output by its parameters.

    Raises:
        RequestError: classes, which only the holder of the key can read, or a part of shared memory that is none.
    """
    if parameters.get(_CLASSES):
        raise RequestError(
            "classes cannot be had here: the order of the logits is the key holder's secret",
            hint="ask for the logits, and read them with: lcve read",
        )
    return RequestedOutput(name=name, place=slice_from(parameters), binary=binary)


def _wish(name: str, parameters: Mapping[str, Any]) -> RequestedOutput:
    return output_from(name, parameters, binary=True)


def _inputs(message: Any, contents: Sequence[bytes | memoryview]) -> list[Tensor]:
    """Inputs with their data: of shared memory, of ``raw_input_contents``, or of the typed contents."""
    raw, inputs = iter(contents), []
    for tensor in message.inputs:
        if contents and tensor.HasField("contents"):
            raise RequestError("contents and raw_input_contents are given at the same time")
        place = slice_from(plain_parameters(tensor.parameters))
        if place is not None:
            data: Any = place
        elif contents:
            data = next(raw, None)
        else:
            data = list(tensor.contents.uint_contents)
        if data is None:
            raise RequestError("raw_input_contents has fewer entries than there are inputs without shared memory")
        inputs.append(Tensor(name=tensor.name, datatype=tensor.datatype, shape=tuple(tensor.shape), data=data))
    if next(raw, None) is not None:
        raise RequestError("raw_input_contents has more entries than there are inputs without shared memory")
    return inputs
