"""Parse and check the bodies of HTTP responses. The server is not trusted."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, Final

import numpy as np

from lcve_deploy.artifact.names import OUTPUT
from lcve_deploy.errors import SessionError
from lcve_deploy.files.reading import parse_json
from lcve_deploy.protocol.errors import ERROR_FIELD
from lcve_deploy.remote.sealed import SealedQuestion
from lcve_deploy.remote.transport import Logits, LogitsReply, check_outputs, logits_from_bytes, stated_seconds

__all__ = ["read_answer", "read_description", "read_sealed", "read_words"]

_BROKEN: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""Exceptions that parsing raises for a malformed body."""


def read_description(body: bytes, message: Any, endpoint: str) -> Any:
    """Parse a model's metadata or configuration.

    Args:
        body: JSON.
        message: empty ``ModelMetadataResponse`` or ``ModelConfig`` (protobuf) to fill.
        endpoint: ``host:port``, for the error.

    Returns:
        The filled message.

    Raises:
        SessionError: the body is not such a message.
    """
    from google.protobuf import json_format

    try:
        parsed = parse_json(body)
        if not isinstance(parsed, dict):
            raise TypeError("not an object")
        return json_format.ParseDict(parsed, message, ignore_unknown_fields=True)
    except (json_format.Error, *_BROKEN):
        raise SessionError(f"{endpoint} did not return a description of a model") from None


def read_answer(
    body: bytes, header_length: int | None, shape: tuple[int, ...], endpoint: str, *, name: str = OUTPUT
) -> LogitsReply:
    """Parse an output, sent as binary data after a JSON header or inside the JSON.

    Args:
        body: response body.
        header_length: bytes of JSON; None if the whole body is JSON.
        shape: expected shape, ``[batch, ...]``.
        endpoint: ``host:port``, for the error.
        name: expected name of the output.

    Raises:
        SessionError: the body does not contain these logits, or states an invalid time.
    """
    head = body if header_length is None else body[:header_length]
    try:
        response = parse_json(head)
        model, version = _text(response["model_name"]), _text(response.get("model_version", ""))
        outputs = response["outputs"]
        described = [(output["name"], output["datatype"], output["shape"]) for output in outputs]
        check_outputs(described, shape, endpoint, name=name)
        logits = _logits(outputs[0], body[len(head) :], shape, endpoint)
        seconds = stated_seconds(response.get("parameters", {}), endpoint)
    except _BROKEN:
        raise SessionError(f"{endpoint} did not return logits") from None
    return LogitsReply(logits=logits, model=model, version=version, server_seconds=seconds)


def read_sealed(body: bytes, header_length: int | None, question: SealedQuestion, endpoint: str) -> LogitsReply:
    """Parse a sealed answer, sent as binary data after a JSON header, and open it.

    Args:
        body: response body.
        header_length: bytes of JSON.
        question: that it answers.
        endpoint: ``host:port``, for the error.

    Raises:
        SessionError: the body does not contain a sealed answer.
        SealingError: it is not the answer to this question.
    """
    head = body if header_length is None else body[:header_length]
    try:
        response = parse_json(head)
        described = [(output["name"], output["datatype"], output["shape"]) for output in response["outputs"]]
        seconds = stated_seconds(response.get("parameters", {}), endpoint)
    except _BROKEN:
        raise SessionError(f"{endpoint} did not return a sealed answer") from None
    return replace(question.read(described, body[len(head) :], endpoint), server_seconds=seconds)


def read_words(body: bytes) -> tuple[str, str]:
    """Return the server's error message and the name of the error; empty if the body is not one of the protocol."""
    try:
        fields = parse_json(body)
        return str(fields["error"]), str(fields.get(ERROR_FIELD, ""))
    except _BROKEN:
        return "", ""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _logits(output: dict[str, Any], data: bytes, shape: tuple[int, ...], endpoint: str) -> Logits:
    """Return the logits of an output.

    Raises:
        SessionError, ValueError, TypeError, AttributeError: there are none, others, or more.
    """
    size = output.get("parameters", {}).get("binary_data_size")
    if (size is None) == ("data" not in output):
        raise ValueError("neither or both of binary data and JSON data")
    if size is None:
        if data:
            raise ValueError("binary data of no output")
        return _from_json(output["data"], shape)
    if type(size) is not int or size != len(data):
        raise ValueError("another number of bytes than stated")
    return logits_from_bytes(data, shape, endpoint)


def _from_json(data: list[Any], shape: tuple[int, ...]) -> Logits:
    """Return numbers in one list, or in nested lists of the shape."""
    numbers = data
    for size in shape[1:]:
        if not all(isinstance(row, list) for row in numbers):
            break
        if any(len(row) != size for row in numbers):
            raise ValueError("rows of another length")
        numbers = [number for row in numbers for number in row]
    if len(numbers) != prod(shape) or not all(type(number) in (int, float) for number in numbers):
        raise ValueError("not as many numbers as the shape has")
    with np.errstate(over="ignore"):  # infinities are for the reader of the logits
        return np.array(numbers, np.float32).reshape(shape)
