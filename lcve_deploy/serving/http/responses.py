"""HTTP responses with JSON bodies, and those for errors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from lcve_deploy.protocol.errors import ERROR_FIELD
from lcve_deploy.protocol.retrying import RETRY_AFTER
from lcve_deploy.serving.codes import client_message, code_of, name_of, retry_seconds

__all__ = ["error_response", "health_response", "hide_library_version", "json_response"]

_SERVER: Final = "lcve-deploy"


def hide_library_version() -> None:
    """Name no library and no version in the header ``Server``.

    Handlers cannot do this: aiohttp answers malformed requests itself.
    """
    from aiohttp import web_response

    web_response.SERVER_SOFTWARE = _SERVER  # type: ignore[attr-defined]


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
    """Return a response with a JSON body. Its type has no parameters: clients compare it with ``application/json``."""
    from aiohttp import web

    return web.Response(
        body=json.dumps(value).encode(), status=status, headers=headers, content_type="application/json"
    )


def error_response(error: Exception) -> Any:
    """Return the response for an error, in the format of the protocol."""
    headers = {}
    seconds = retry_seconds(error)
    if seconds is not None:
        headers[RETRY_AFTER] = str(max(1, math.ceil(seconds)))
    status = code_of(error).http
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    name = {ERROR_FIELD: code} if (code := name_of(error)) else {}
    return json_response({"error": client_message(error), **name}, status=status, headers=headers)


def health_response(named: Mapping[str, str], field: str, answer: bool) -> Any:
    """Return the answer both as the body that the protocol states, and as the status 200 or 400 of Triton.

    Clients of KServe read the body, those of Triton the status.
    """
    body = {**named, field: answer}
    return json_response(body) if answer else json_response({**body, "error": f"not {field}"}, status=400)
