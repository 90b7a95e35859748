"""Convert HTTP bodies to inference requests, responses to bodies, and protobuf messages to JSON values.

Source: Open Inference Protocol v2 over HTTP, with the binary tensor data extension. A body is JSON of the length that
the header ``Inference-Header-Content-Length`` states, followed by the raw bytes of the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from lcve_deploy.errors import RequestError, TooLargeError
from lcve_deploy.protocol.binding import binding_from_parameters
from lcve_deploy.protocol.timing import SERVER_MICROSECONDS
from lcve_deploy.serving.http.json_arrays import parse_json
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
    """Split a body into JSON and raw bytes.

    Args:
        body: complete body.
        length: length of the JSON as the header states it; None if the whole body is JSON.
        max_json_bytes: maximum bytes of JSON.

    Raises:
        RequestError: the length is not an integer, or exceeds the body.
        TooLargeError: the JSON is longer than ``max_json_bytes``.
    """
    if length is None:
        size = len(body)
    elif length.isascii() and length.isdecimal() and len(length) < 16 and int(length) <= len(body):
        size = int(length)
    else:
        raise RequestError(
            f"expected {LENGTH_HEADER} from 0 to {len(body)}, the bytes of the body, received {length[:20]!r}"
        )
    if size > max_json_bytes:
        raise TooLargeError(
            f"expected at most {max_json_bytes} bytes of JSON, received {size}", hint="send tensors as binary data"
        )
    return body[:size], body[size:]


def parse_object(text: bytes | memoryview) -> dict[str, Any]:
    """Parse a JSON object; empty text is an empty object. Long tensors become arrays, see ``parse_json``.

    Raises:
        RequestError: the text is not JSON, or not an object, or a long array is no tensor.
        TooLargeError: there is too much JSON in addition to tensors.
    """
    try:
        value = parse_json(text or b"{}")
    except RequestError:  # a ValueError too
        raise
    except (ValueError, RecursionError):
        raise RequestError(
            "the body is not JSON",
            hint=f"if binary data follows the JSON, send the length of the JSON in the header {LENGTH_HEADER}",
        ) from None
    if not isinstance(value, dict):
        raise RequestError(f"expected a JSON object, received {type(value).__name__}")
    return value


def from_body(fields: Mapping[str, Any], raw: memoryview, model: str, version: str) -> tuple[InferRequest, bool]:
    """Convert the body of an inference request.

    Args:
        fields: JSON of the body.
        raw: raw bytes after the JSON.
        model, version: model name and version of the path.

    Returns:
        The request, and whether to return the outputs as binary data if the request names no output.

    Raises:
        RequestError: fields are missing, invalid or contradict each other.
    """
    parameters, request_id = _parameters(fields), fields.get("id", "")
    if not isinstance(request_id, str):
        raise RequestError(f"expected a string as the id of the request, received {type(request_id).__name__}")
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
    """Convert a response to JSON, and the raw bytes that follow it; logits in shared memory are in neither."""
    values = response.values
    output: dict[str, Any] = {
        "name": response.output.name,
        "datatype": response.datatype,
        "shape": list(values.shape),
    }
    raw, destination = b"", response.output.destination
    if destination is not None:
        output["parameters"] = {
            REGION: destination.region,
            BYTE_SIZE: values.nbytes,
            OFFSET: destination.offset,
        }
    elif response.output.binary:
        raw = values.tobytes()
        output["parameters"] = {_BINARY: len(raw)}
    else:
        output["data"] = values.reshape(-1).tolist()
    fields = {
        "model_name": response.model.name,
        "model_version": response.model.version,
        "parameters": {SERVER_MICROSECONDS: response.microseconds},
        "outputs": [output],
    }
    if request_id:
        fields["id"] = request_id
    return json.dumps(fields).encode(), raw


def plain_message(message: Any) -> dict[str, Any]:
    """Convert a protobuf message to plain values for JSON. Fields with presence that are not set are left out.

    Unlike protobuf's own JSON, 64-bit integers are numbers, and names are those of the proto file.
    """
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
    """Return the named JSON object; an empty one if it is missing.

    Raises:
        RequestError: the value is not an object.
    """
    value = fields.get(name, {})
    if not isinstance(value, dict):
        raise RequestError(f"{name}: expected an object, received {type(value).__name__}")
    return value


def _parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request or tensor.

    Raises:
        RequestError: the parameters are not an object of strings, numbers and booleans.
    """
    parameters = object_in(fields, "parameters")
    if invalid := [name for name, value in parameters.items() if not isinstance(value, str | int | float)]:
        raise RequestError(f"expected a string, number or boolean as parameter {invalid[0][:200]!r}")
    return parameters


def _objects(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = fields.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RequestError(f"{name}: expected a list of objects")
    return value


def _name(fields: Mapping[str, Any]) -> str:
    name = fields.get("name")
    if not isinstance(name, str):
        raise RequestError("expected a name for each tensor")
    return name


def _requested_output(fields: dict[str, Any], binary: bool) -> RequestedOutput:
    parameters = _parameters(fields)
    return output_from(_name(fields), parameters, binary=parameters.get("binary_data", binary) is True)


def _inputs(tensors: list[dict[str, Any]], raw: memoryview) -> list[Tensor]:
    inputs, first = [], 0
    for fields in tensors:
        name, shape = _name(fields), fields.get("shape")
        if not isinstance(shape, list):
            raise RequestError(f"expected a list of sizes as the shape of input {name[:200]!r}")
        parameters = _parameters(fields)
        data: Any = slice_from(parameters)
        if [data is not None, _BINARY in parameters, "data" in fields].count(True) > 1:
            raise RequestError(
                f"input {name[:200]!r} has several sources of data; expected one of data, {_BINARY} and {REGION}"
            )
        if data is None and _BINARY in parameters:
            last = first + require_int(parameters[_BINARY], _BINARY)
            if last > len(raw):
                raise RequestError(f"the inputs need at least {last} bytes of binary data, received {len(raw)}")
            data, first = raw[first:last], last
        elif data is None:
            data = fields.get("data")
            if not isinstance(data, list | np.ndarray):
                raise RequestError(f"expected a list as the data of input {name[:200]!r}, or {_BINARY}, or {REGION}")
        sizes = tuple(require_int(size, "the sizes of a shape") for size in shape)
        inputs.append(Tensor(name=name, datatype=str(fields.get("datatype", "")), shape=sizes, data=data))
    if first != len(raw):
        raise RequestError(f"received {len(raw) - first} bytes of binary data that belong to no input")
    return inputs
