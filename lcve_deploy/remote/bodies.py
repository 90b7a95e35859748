"""Parse and check the bodies of HTTP responses. The server is not trusted."""

from __future__ import annotations

from typing import Any, Final

from lcve_deploy.errors import SessionError
from lcve_deploy.files.reading import parse_json
from lcve_deploy.remote.transport import LogitsReply, read_logits

__all__ = ["read_answer", "read_description", "read_words"]

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


def read_answer(body: bytes, header_length: int | None, shape: tuple[int, int], endpoint: str) -> LogitsReply:
    """Parse logits, sent as binary data after a JSON header or inside the JSON.

    Args:
        body: response body.
        header_length: bytes of JSON; None if the whole body is JSON.
        shape: expected ``[batch, classes]``.
        endpoint: ``host:port``, for the error.

    Raises:
        SessionError: the body does not contain these logits.
    """
    from tritonclient.http import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    try:
        result = InferenceServerClient.parse_response_body(body, header_length=header_length)
        response = result.get_response()
        outputs = [(output["name"], output["datatype"], output["shape"]) for output in response["outputs"]]
        model, version = str(response["model_name"]), str(response.get("model_version", ""))
    except (InferenceServerException, *_BROKEN):
        raise SessionError(f"{endpoint} did not return logits") from None
    return LogitsReply(logits=read_logits(result, outputs, shape, endpoint), model=model, version=version)


def read_words(body: bytes) -> str:
    """Return the server's error message; empty if the body is not an error of the protocol."""
    try:
        return str(parse_json(body)["error"])
    except _BROKEN:
        return ""
