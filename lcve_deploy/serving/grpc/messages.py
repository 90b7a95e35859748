"""Convert gRPC messages to inference requests, and responses to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lcve_deploy.errors import RequestError
from lcve_deploy.protocol.binding import binding_from_parameters
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.protocol.timing import SERVER_MICROSECONDS
from lcve_deploy.serving.inference import InferRequest, InferResponse, RequestedOutput, Tensor
from lcve_deploy.serving.parameters import BYTE_SIZE, OFFSET, REGION, output_from, slice_from, timeout_from

__all__ = ["from_message", "plain_parameters", "to_message"]


def from_message(message: Any, raw: Sequence[bytes | memoryview]) -> InferRequest:
    """Convert a ``ModelInferRequest`` to an inference request.

    Args:
        message: protobuf message, with or without its raw tensors.
        raw: ``raw_input_contents`` of the message.

    Raises:
        RequestError: fields are invalid or contradict each other.
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
    """Convert a response to a ``ModelInferResponse``; logits in shared memory are not repeated in it."""
    message = messages().ModelInferResponse(
        model_name=response.model.name, model_version=response.model.version, id=request_id
    )
    message.parameters[SERVER_MICROSECONDS].int64_param = response.microseconds
    values = response.values
    output = message.outputs.add(name=response.output.name, datatype=response.datatype, shape=values.shape)
    data = values.tobytes()
    if response.output.destination is None:
        message.raw_output_contents.append(data)
    else:
        output.parameters[REGION].string_param = response.output.destination.region
        output.parameters[BYTE_SIZE].int64_param = len(data)
        output.parameters[OFFSET].int64_param = response.output.destination.offset
    return message


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Convert protobuf parameters to plain values; parameters without a value are left out."""
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], field) for name, field in chosen.items() if field}


def _requested_output(name: str, parameters: Mapping[str, Any]) -> RequestedOutput:
    return output_from(name, parameters, binary=True)


def _inputs(message: Any, contents: Sequence[bytes | memoryview]) -> list[Tensor]:
    """Return the inputs with their data, from shared memory, ``raw_input_contents`` or typed contents.

    Raises:
        RequestError: the data of an input is missing, or is in more than one place.
    """
    raw, inputs = iter(contents), []
    for tensor in message.inputs:
        if contents and tensor.HasField("contents"):
            raise RequestError("received both contents and raw_input_contents, expected one of them")
        source = slice_from(plain_parameters(tensor.parameters))
        if source is not None:
            data: Any = source
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
