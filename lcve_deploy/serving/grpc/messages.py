"""Inference messages of gRPC to requests, and answers to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lcve_deploy.errors import RequestError
from lcve_deploy.protocol.binding import binding_from_parameters
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.inference import InferRequest, InferResponse, RequestedOutput, Tensor
from lcve_deploy.serving.parameters import BYTE_SIZE, OFFSET, REGION, output_from, slice_from, timeout_from

__all__ = ["from_message", "plain_parameters", "to_message"]


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
        outputs=[_requested_output(output.name, plain_parameters(output.parameters)) for output in message.outputs],
        binding=binding_from_parameters(parameters),
        timeout=timeout_from(parameters),
    )


def to_message(response: InferResponse, request_id: str) -> Any:
    """Write a ``ModelInferResponse``; logits that went into shared memory are not in it."""
    message = messages().ModelInferResponse(
        model_name=response.model.name, model_version=response.model.version, id=request_id
    )
    output = message.outputs.add(name=response.output.name, datatype="FP32", shape=response.logits.shape)
    data = np.ascontiguousarray(response.logits, dtype="<f4").tobytes()
    if response.output.destination is None:
        message.raw_output_contents.append(data)
    else:
        output.parameters[REGION].string_param = response.output.destination.region
        output.parameters[BYTE_SIZE].int64_param = len(data)
        output.parameters[OFFSET].int64_param = response.output.destination.offset
    return message


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of protobuf as plain values."""
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], field) for name, field in chosen.items() if field}


def _requested_output(name: str, parameters: Mapping[str, Any]) -> RequestedOutput:
    return output_from(name, parameters, binary=True)


def _inputs(message: Any, contents: Sequence[bytes | memoryview]) -> list[Tensor]:
    """Inputs with their data: of shared memory, of ``raw_input_contents``, or of the typed contents."""
    raw, inputs = iter(contents), []
    for tensor in message.inputs:
        if contents and tensor.HasField("contents"):
            raise RequestError("contents and raw_input_contents are given at the same time")
        destination = slice_from(plain_parameters(tensor.parameters))
        if destination is not None:
            data: Any = destination
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
