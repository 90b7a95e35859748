"""What a server's HTTP answers say. None of it is believed before it is checked."""

from __future__ import annotations

from typing import Any, Final

from lcve_deploy.errors import SessionError
from lcve_deploy.files.reading import parse_json
from lcve_deploy.remote.transport import LogitsReply, read_logits

__all__ = ["read_answer", "read_description", "read_words"]

_BROKEN: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""What readers raise of a body that is something else."""


def read_description(body: bytes, message: Any, endpoint: str) -> Any:
    """A model's metadata or configuration.

    Args:
        body: JSON.
        message: ``ModelMetadataResponse`` or ``ModelConfig`` (protobuf), empty.
        endpoint: ``host:port``, for the error.

    Returns:
        The message.

    Raises:
        SessionError: anything else.
    """
    from google.protobuf import json_format

    try:
        said = parse_json(body)
        if not isinstance(said, dict):
            raise TypeError("not an object")
        return json_format.ParseDict(said, message, ignore_unknown_fields=True)
    except (json_format.Error, *_BROKEN):
        raise SessionError(f"{endpoint} answered no description of a model") from None


def read_answer(body: bytes, header_length: int | None, shape: tuple[int, int], endpoint: str) -> LogitsReply:
    """Logits, after a header in JSON or within it.

    Args:
        body: of the answer.
        header_length: bytes of the JSON; None for all.
        shape: ``[batch, classes]`` of the logits that were asked for.
        endpoint: ``host:port``, for the error.

    Raises:
        SessionError: anything else.
    """
    from tritonclient.http import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    try:
        result = InferenceServerClient.parse_response_body(body, header_length=header_length)
        response = result.get_response()
        outputs = [(output["name"], output["datatype"], output["shape"]) for output in response["outputs"]]
        model, version = str(response["model_name"]), str(response.get("model_version", ""))
    except (InferenceServerException, *_BROKEN):
        raise SessionError(f"{endpoint} answered no logits") from None
    return LogitsReply(logits=read_logits(result, outputs, shape, endpoint), model=model, version=version)


def read_words(body: bytes) -> str:
    """The server's words on what went wrong; empty where they are not those of the protocol."""
    try:
        return str(parse_json(body)["error"])
    except _BROKEN:
        return ""
