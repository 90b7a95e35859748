"""Inference requests of HTTP to requests, answers to bodies, and protobuf messages as JSON.

Source: Open Inference Protocol v2 over HTTP, with the binary tensor data extension: a body is JSON, of the length that
the header ``Inference-Header-Content-Length`` gives, and then the raw bytes of tensors, one after another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from lcve_deploy.errors import RequestError, TooLargeError
from lcve_deploy.protocol.binding import binding_from_parameters
from lcve_deploy.serving.inference import InferRequest, InferResponse, RequestedOutput, Tensor
from lcve_deploy.serving.parameters import (
    BYTE_SIZE,
    OFFSET,
    REGION,
    output_from,
    require_int,
    slice_from,
    timeout_from,
)

__all__ = ["LENGTH_HEADER", "from_body", "object_in", "parse_object", "plain_message", "split_body", "to_body"]

LENGTH_HEADER: Final = "Inference-Header-Content-Length"
_BINARY: Final = "binary_data_size"


def split_body(body: memoryview, length: str | None, max_json_bytes: int) -> tuple[memoryview, memoryview]:
    """JSON and raw bytes of a body.

    Args:
        body: whole.
        length: of the JSON, as the header gives it; None where it is all of the body.
        max_json_bytes: bytes that the JSON may have.

    Raises:
        RequestError: a length that is none, or beyond the body.
        TooLargeError: longer JSON.
    """
    if length is None:
        size = len(body)
    elif length.isascii() and length.isdecimal() and len(length) < 16 and int(length) <= len(body):
        size = int(length)
    else:
        raise RequestError(f"{LENGTH_HEADER} is {length[:20]!r}, but the body has {len(body)} bytes")
    if size > max_json_bytes:
        raise TooLargeError(
            f"at most {max_json_bytes} bytes of JSON are taken, received {size}", hint="send tensors as binary data"
        )
    return body[:size], body[size:]


def parse_object(text: bytes | memoryview) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RequestError: no JSON, or no object.
    """
    try:
        value = json.loads(bytes(text) or b"{}")
    except (ValueError, RecursionError):
        raise RequestError(
            "the body is not JSON", hint=f"where binary data follows, give its length: {LENGTH_HEADER}"
        ) from None
    if not isinstance(value, dict):
        raise RequestError(f"expected a JSON object, received {type(value).__name__}")
    return value


def from_body(fields: Mapping[str, Any], raw: memoryview, model: str, version: str) -> tuple[InferRequest, bool]:
    """Read an inference request.

    Args:
        fields: of the JSON.
        raw: bytes after it.
        model, version: of the path.

    Returns:
        The request, and whether outputs go back as binary data if none is named.

    Raises:
        RequestError: parts that are missing, of another kind, or contradict each other.
    """
    parameters, request_id = _parameters(fields), fields.get("id", "")
    if not isinstance(request_id, str):
        raise RequestError("the id of a request is text")
    binary = parameters.get("binary_data_output") is True
    request = InferRequest(
        model=model,
        version=version,
        id=request_id,
        inputs=_inputs(_objects(fields, "inputs"), raw),
        outputs=[_requested_output(output, binary) for output in _objects(fields, "outputs")],
        binding=binding_from_parameters(parameters),
        timeout=timeout_from(parameters),
    )
    return request, binary


def to_body(response: InferResponse, request_id: str) -> tuple[bytes, bytes]:
    """JSON of a response, and the raw bytes that follow it."""
    logits = np.ascontiguousarray(response.logits, dtype="<f4")
    output: dict[str, Any] = {"name": response.output.name, "datatype": "FP32", "shape": list(logits.shape)}
    raw, destination = b"", response.output.destination
    if destination is not None:
        output["parameters"] = {
            REGION: destination.region,
            BYTE_SIZE: logits.nbytes,
            OFFSET: destination.offset,
        }
    elif response.output.binary:
        raw = logits.tobytes()
        output["parameters"] = {_BINARY: len(raw)}
    else:
        output["data"] = logits.reshape(-1).tolist()
    fields = {"model_name": response.model.name, "model_version": response.model.version, "outputs": [output]}
    if request_id:
        fields["id"] = request_id
    return json.dumps(fields).encode(), raw


def plain_message(message: Any) -> dict[str, Any]:
    """A protobuf message as plain values, with numbers as numbers; what is not set and can be told so is left out."""
    return {field.name: _plain_field(message, field) for field in message.DESCRIPTOR.fields if _is_set(message, field)}


def _is_set(message: Any, field: Any) -> bool:
    return bool(message.HasField(field.name)) if field.has_presence else True


def _plain_field(message: Any, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of_messages = field.message_type.fields_by_name["value"].message_type is not None
        return {key: plain_message(value[key]) if of_messages else value[key] for key in value}
    if field.is_repeated:
        return [_plain_value(item, field) for item in value]
    return _plain_value(value, field)


def _plain_value(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return plain_message(value)
    return field.enum_type.values_by_number[value].name if field.enum_type is not None else value


def object_in(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object of that name; an empty one if there is none.

    Raises:
        RequestError: something else than an object.
    """
    value = fields.get(name, {})
    if not isinstance(value, dict):
        raise RequestError(f"{name}: expected an object")
    return value


def _parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request or tensor.

    Raises:
        RequestError: something else than an object of texts, numbers and truth values.
    """
    parameters = object_in(fields, "parameters")
    if invalid := [name for name, value in parameters.items() if not isinstance(value, str | int | float)]:
        raise RequestError(f"a parameter is a text, a number or a truth value; not so {invalid[0][:200]!r}")
    return parameters


def _objects(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = fields.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RequestError(f"{name}: expected a list of objects")
    return value


def _name(fields: Mapping[str, Any]) -> str:
    name = fields.get("name")
    if not isinstance(name, str):
        raise RequestError("a tensor needs a name")
    return name


def _requested_output(fields: dict[str, Any], binary: bool) -> RequestedOutput:
    parameters = _parameters(fields)
    return output_from(_name(fields), parameters, binary=parameters.get("binary_data", binary) is True)


def _inputs(tensors: list[dict[str, Any]], raw: memoryview) -> list[Tensor]:
    inputs, first = [], 0
    for fields in tensors:
        name, shape = _name(fields), fields.get("shape")
        if not isinstance(shape, list):
            raise RequestError(f"input {name[:200]!r} needs a shape")
        parameters = _parameters(fields)
        data: Any = slice_from(parameters)
        if [data is not None, _BINARY in parameters, "data" in fields].count(True) > 1:
            raise RequestError(f"input {name[:200]!r} has its values in more than one place")
        if data is None and _BINARY in parameters:
            last = first + require_int(parameters[_BINARY], _BINARY)
            if last > len(raw):
                raise RequestError(f"the body ends before byte {last} of its binary data; it has {len(raw)}")
            data, first = raw[first:last], last
        elif data is None:
            data = fields.get("data")
            if not isinstance(data, list):
                raise RequestError(f"input {name[:200]!r} has no data")
        sizes = tuple(require_int(size, "a size of a shape") for size in shape)
        inputs.append(Tensor(name=name, datatype=str(fields.get("datatype", "")), shape=sizes, data=data))
    if first != len(raw):
        raise RequestError(f"{len(raw) - first} bytes of binary data belong to no input")
    return inputs
