"""HTTP applications: the paths of the protocol, and the metrics page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from lcve_deploy.errors import (
    DeadlineError,
    LcveError,
    RequestError,
    TooLargeError,
)
from lcve_deploy.libraries.requiring import require
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.calls import CALLS, answer_call
from lcve_deploy.serving.http.cors import web_page_middleware
from lcve_deploy.serving.http.messages import (
    LENGTH_HEADER,
    from_body,
    object_in,
    parse_object,
    plain_message,
    split_body,
    to_body,
)
from lcve_deploy.serving.http.responses import (
    error_response,
    health_response,
    hide_library_version,
    json_response,
)
from lcve_deploy.serving.sealing import AcceptedRequest, accept, infer_any
from lcve_deploy.serving.sizes import max_binary_bytes, max_json_bytes
from lcve_deploy.serving.state import Exchange, ServerState
from lcve_deploy.serving.telemetry.metrics import CONTENT_TYPE

__all__ = ["http_app", "metrics_app"]

_MAX_CALL_BYTES: Final = 1 << 16
_MAX_INLINE_JSON: Final = 1 << 16
_HINT: Final = "send tensors as binary data, and large batches in several requests"
_ENCODINGS: Final = ("identity", "gzip", "deflate")


@dataclass(frozen=True, kw_only=True)
class _Route:
    """An HTTP path of a call.

    Args:
        method, path: HTTP method and path, with parameters in braces.
        call: name of the call in ``CALLS``.
        bool_field: boolean field of the response that the HTTP status reports too; empty for other responses.
        body_field: field of the response that is the whole body; empty for the whole response.
        names: pairs of a path parameter and the field of the request that it sets.
    """

    method: str
    path: str
    call: str
    bool_field: str = ""
    body_field: str = ""
    names: tuple[tuple[str, str], ...] = field(default=(("model", "name"), ("version", "version"), ("region", "name")))


_LOAD_NAMES: Final = (("model", "model_name"),)
_MODEL: Final = "/v2/models/{model}"
_VERSION: Final = "/v2/models/{model}/versions/{version}"
_MEMORY: Final = (("system", "SystemSharedMemory"), ("cuda", "CudaSharedMemory"))

_ROUTES: Final = (
    _Route(method="GET", path="/v2/health/live", call="ServerLive", bool_field="live"),
    _Route(method="GET", path="/v2/health/ready", call="ServerReady", bool_field="ready"),
    _Route(method="GET", path="/v2", call="ServerMetadata"),
    _Route(method="GET", path="/v2/models/stats", call="ModelStatistics"),
    *(
        _Route(method="GET", path=f"{prefix}{suffix}", call=call, bool_field=bool_field, body_field=body_field)
        for prefix in (_MODEL, _VERSION)
        for suffix, call, bool_field, body_field in (
            ("", "ModelMetadata", "", ""),
            ("/ready", "ModelReady", "ready", ""),
            ("/config", "ModelConfig", "", "config"),
            ("/stats", "ModelStatistics", "", ""),
        )
    ),
    _Route(method="POST", path="/v2/repository/index", call="RepositoryIndex", body_field="models"),
    _Route(method="POST", path="/v2/repository/models/{model}/load", call="RepositoryModelLoad", names=_LOAD_NAMES),
    _Route(method="POST", path="/v2/repository/models/{model}/unload", call="RepositoryModelUnload", names=_LOAD_NAMES),
    *(
        _Route(method=method, path=f"/v2/{kind}sharedmemory{suffix}", call=f"{call}{name}", body_field=body_field)
        for kind, call in _MEMORY
        for method, suffix, name, body_field in (
            ("GET", "/status", "Status", "regions"),
            ("GET", "/region/{region}/status", "Status", "regions"),
            ("POST", "/region/{region}/register", "Register", ""),
            ("POST", "/region/{region}/unregister", "Unregister", ""),
            ("POST", "/unregister", "Unregister", ""),
        )
    ),
    _Route(method="GET", path="/v2/logging", call="LogSettings"),
    _Route(method="POST", path="/v2/logging", call="LogSettings"),
    _Route(method="GET", path="/v2/trace/setting", call="TraceSetting"),
    _Route(method="POST", path="/v2/trace/setting", call="TraceSetting"),
)

_Handler = Callable[[Any, Exchange], Awaitable[Any]]


def http_app(state: ServerState) -> Any:
    """Return the aiohttp application of the protocol.

    Raises:
        MissingDependencyError: aiohttp is not installed.
    """
    web = _aiohttp()
    hide_library_version()
    app = web.Application(middlewares=[web_page_middleware(state), _json_errors(web)])
    for route in _ROUTES:
        app.router.add_route(route.method, route.path, _guard(state, route.call, _call_handler(state, route)))
    for prefix in (_MODEL, _VERSION):
        app.router.add_post(f"{prefix}/infer", _guard(state, "ModelInfer", _infer_handler(state)))
    return app


def metrics_app(state: ServerState) -> Any:
    """Return the aiohttp application for the operator's network: health and metrics, without tokens and TLS.

    Raises:
        MissingDependencyError: aiohttp is not installed.
    """
    web = _aiohttp()

    async def metrics(request: Any) -> Any:
        return web.Response(body=state.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    hide_library_version()
    app = web.Application(middlewares=[web_page_middleware(state), _json_errors(web)])
    for route in _ROUTES:
        if CALLS[route.call].is_public:
            app.router.add_route(route.method, route.path, _guard(state, route.call, _call_handler(state, route)))
    app.router.add_get("/metrics", metrics)
    return app


def _aiohttp() -> Any:
    with require("serving HTTP needs aiohttp", extra="serve,cpu"):
        from aiohttp import web
    return web


def _guard(state: ServerState, call: str, answer: _Handler) -> Callable[[Any], Awaitable[Any]]:
    """Return an aiohttp handler that authorizes a request, runs ``answer``, and records the result.

    Token, rate and the number of requests in progress are checked before the body is read. Errors become responses.
    """

    async def handle(request: Any) -> Any:
        exchange = Exchange("http", call, request.remote or "")
        try:
            if call in CALLS and CALLS[call].is_public:
                response = await answer(request, exchange)  # even if the server is full or shutting down
            else:
                exchange.identify(state.access.authenticate(request.headers.get("Authorization"), exchange.client))
                state.access.count_request(exchange.client)
                with state.pending_request():
                    response = await answer(request, exchange)
        except (asyncio.CancelledError, ConnectionResetError):
            state.finish(exchange, code="CANCELLED")
            raise
        except Exception as error:  # last chance to send an error to the client
            state.finish(exchange, error)
            return error_response(error)
        state.finish(exchange)
        return response

    return handle


def _json_errors(web: Any) -> Any:
    """Return a middleware that reports unknown paths and methods in the format of the protocol."""

    async def answer(request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except web.HTTPException as error:
            text = f"{error.reason}: {request.method} {request.path[:200]}"
            return json_response({"error": text}, status=error.status)

    return web.middleware(answer)


def _call_handler(state: ServerState, route: _Route) -> _Handler:
    """Return the handler of a route."""
    web = _aiohttp()
    names = dict(route.names)

    async def answer(request: Any, exchange: Exchange) -> Any:
        from google.protobuf import json_format

        fields = parse_object(await _read_body(request, _MAX_CALL_BYTES, state.limits.read_seconds))
        fields["parameters"] = {
            name: _parameter_fields(value) for name, value in object_in(fields, "parameters").items()
        }
        fields.update({names[name]: value for name, value in request.match_info.items()})
        try:
            message = json_format.ParseDict(
                fields, getattr(messages(), f"{route.call}Request")(), ignore_unknown_fields=True
            )
        except json_format.ParseError as error:
            raise RequestError(f"the body is invalid for this call: {str(error)[:200]}") from None
        response = await answer_call(route.call, state, message, exchange)
        if route.bool_field:
            named = {"name": request.match_info["model"]} if "model" in request.match_info else {}
            return health_response(named, route.bool_field, getattr(response, route.bool_field))
        body: Any = plain_message(response)
        if route.body_field:
            body = body[route.body_field]
        if route.body_field == "regions":
            body = list(body.values())
        return json_response(body) if body or route.method == "GET" or route.body_field else web.Response()

    return answer


def _parameter_fields(value: Any) -> dict[str, Any]:
    """Convert a JSON value to the fields of a ``ModelRepositoryParameter``.

    Raises:
        RequestError: the value is not a boolean, integer or string.
    """
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param"}
    if type(value) not in kinds:
        raise RequestError(f"expected a boolean, integer or string as a parameter, received {type(value).__name__}")
    return {kinds[type(value)]: value}


def _infer_handler(state: ServerState) -> _Handler:
    """Return the handler of inference requests."""
    web = _aiohttp()

    async def answer(request: Any, exchange: Exchange) -> Any:
        exchange.model = request.match_info["model"]
        accepted = await _receive(state, request, exchange)
        response = await infer_any(accepted, state.regions_of(exchange))
        exchange.version, exchange.batch = response.model.version, len(response.logits)
        header, data = to_body(response, accepted.prepared.id)
        if not data:
            return web.Response(body=header, content_type="application/json")
        headers = {LENGTH_HEADER: str(len(header)), "Content-Type": "application/octet-stream"}
        return web.Response(body=header + data, headers=headers)

    return answer


async def _receive(state: ServerState, request: Any, exchange: Exchange) -> AcceptedRequest:
    """Read and validate an inference request. Sets id and key of the exchange. The body ends with this function."""
    version, length = request.match_info.get("version", ""), request.headers.get(LENGTH_HEADER)
    model = state.registry.get(exchange.model, version)
    max_json = max_json_bytes(model, state.limits)
    max_body = max_json if length is None else max(max_json, max_binary_bytes(model, state.limits))
    body = await _read_body(request, max_body, state.limits.read_seconds)
    text, raw = split_body(body, length, max_json)
    fields = await _parse_json(state, text)
    infer_request, binary = from_body(fields, raw, exchange.model, version)
    exchange.id = infer_request.id
    regions = state.regions_of(exchange)
    accepted = await accept(infer_request, state.registry, regions, state.sealing, allowed=exchange.keys, binary=binary)
    exchange.key = accepted.prepared.key_name
    return accepted


async def _parse_json(state: ServerState, text: memoryview) -> dict[str, Any]:
    """Parse the JSON of a body. Long JSON is parsed in a thread, one body at a time: it uses several times its size."""
    if len(text) <= _MAX_INLINE_JSON:
        return parse_object(text)
    async with state.parsing:
        return await asyncio.to_thread(parse_object, text)


async def _read_body(request: Any, max_bytes: int, seconds: float) -> memoryview:
    """Return the decompressed body of a request.

    Args:
        request: aiohttp request.
        max_bytes: maximum size, both as sent and decompressed.
        seconds: seconds until the body must have arrived.

    Raises:
        TooLargeError: the body is larger than ``max_bytes``.
        DeadlineError: the body did not arrive in time.
        RequestError: the encoding is not supported, or the body cannot be decompressed.
    """
    from aiohttp import ClientPayloadError
    from aiohttp.http_exceptions import HttpProcessingError
    from aiohttp.web import RequestPayloadError

    body, encoding = bytearray(), request.headers.get("Content-Encoding", "identity")
    if encoding.lower() not in _ENCODINGS:
        raise RequestError(f"expected Content-Encoding {' or '.join(_ENCODINGS)}, received {encoding[:40]!r}")
    try:
        async with asyncio.timeout(seconds):
            if (request.content_length or 0) > max_bytes:
                raise TooLargeError(
                    f"expected at most {max_bytes} bytes, received {request.content_length}", hint=_HINT
                )
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise TooLargeError(f"expected at most {max_bytes} bytes, received more", hint=_HINT)
    except LcveError:
        raise
    except TimeoutError:
        raise DeadlineError(f"the request did not arrive within {seconds:g} s") from None
    except (ClientPayloadError, RequestPayloadError, HttpProcessingError, ValueError) as error:
        raise RequestError(f"the body cannot be read: {str(error)[:200]}") from None
    return memoryview(body)
