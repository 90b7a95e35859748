"""The HTTP front: the paths of the protocol, and a page of metrics."""

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
    UnavailableError,
)
from lcve_deploy.libraries.requiring import require
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.calls import CALLS, answer_call
from lcve_deploy.serving.codes import code_of, text_of
from lcve_deploy.serving.http.messages import LENGTH, from_body, object_in, parse_object, plain, split_body, to_body
from lcve_deploy.serving.inference import infer
from lcve_deploy.serving.state import Exchange, Service
from lcve_deploy.serving.telemetry.metrics import CONTENT_TYPE

__all__ = ["http_app", "metrics_app"]

_SMALL_BODY: Final = 1 << 16
_LARGE_JSON: Final = 1 << 16
_RETRY_AFTER: Final = "1"
_ENCODINGS: Final = ("identity", "gzip", "deflate")


@dataclass(frozen=True, kw_only=True)
class _Route:
    """A path that stands for a call.

    Args:
        verb, path: of HTTP; names in braces are fields of the message.
        call: of the table.
        flag: field that says yes or no, by the status of the answer.
        only: field that is the whole body; otherwise the message is.
        names: fields of the message by the names of the path.
    """

    verb: str
    path: str
    call: str
    flag: str = ""
    only: str = ""
    names: tuple[tuple[str, str], ...] = field(default=(("model", "name"), ("version", "version"), ("region", "name")))


_LOADING: Final = (("model", "model_name"),)
_MODEL: Final = "/v2/models/{model}"
_VERSION: Final = "/v2/models/{model}/versions/{version}"
_MEMORY: Final = (("system", "SystemSharedMemory"), ("cuda", "CudaSharedMemory"))

_ROUTES: Final = (
    _Route(verb="GET", path="/v2/health/live", call="ServerLive", flag="live"),
    _Route(verb="GET", path="/v2/health/ready", call="ServerReady", flag="ready"),
    _Route(verb="GET", path="/v2", call="ServerMetadata"),
    _Route(verb="GET", path="/v2/models/stats", call="ModelStatistics"),
    *(
        _Route(verb="GET", path=f"{place}{end}", call=call, flag=flag, only=only)
        for place in (_MODEL, _VERSION)
        for end, call, flag, only in (
            ("", "ModelMetadata", "", ""),
            ("/ready", "ModelReady", "ready", ""),
            ("/config", "ModelConfig", "", "config"),
            ("/stats", "ModelStatistics", "", ""),
        )
    ),
    _Route(verb="POST", path="/v2/repository/index", call="RepositoryIndex", only="models"),
    _Route(verb="POST", path="/v2/repository/models/{model}/load", call="RepositoryModelLoad", names=_LOADING),
    _Route(verb="POST", path="/v2/repository/models/{model}/unload", call="RepositoryModelUnload", names=_LOADING),
    *(
        _Route(verb=verb, path=f"/v2/{kind}sharedmemory{end}", call=f"{call}{name}", only=only)
        for kind, call in _MEMORY
        for verb, end, name, only in (
            ("GET", "/status", "Status", "regions"),
            ("GET", "/region/{region}/status", "Status", "regions"),
            ("POST", "/region/{region}/register", "Register", ""),
            ("POST", "/region/{region}/unregister", "Unregister", ""),
            ("POST", "/unregister", "Unregister", ""),
        )
    ),
    _Route(verb="GET", path="/v2/logging", call="LogSettings"),
    _Route(verb="POST", path="/v2/logging", call="LogSettings"),
    _Route(verb="GET", path="/v2/trace/setting", call="TraceSetting"),
    _Route(verb="POST", path="/v2/trace/setting", call="TraceSetting"),
)

_Answer = Callable[[Any, Exchange], Awaitable[Any]]


def http_app(service: Service) -> Any:
    """The application of the protocol.

    Raises:
        MissingDependencyError: aiohttp is not installed.
    """
    web = _aiohttp()
    app = web.Application(middlewares=[_no_such_path(web)])
    for route in _ROUTES:
        app.router.add_route(route.verb, route.path, _guarded(service, route.call, _calling(service, route)))
    for place in (_MODEL, _VERSION):
        app.router.add_post(f"{place}/infer", _guarded(service, "ModelInfer", _inferring(service)))
    return app


def metrics_app(service: Service) -> Any:
    """The application for the operator's own machines: health and metrics, without tokens and TLS."""
    web = _aiohttp()

    async def metrics(request: Any) -> Any:
        return web.Response(body=service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application(middlewares=[_no_such_path(web)])
    for route in _ROUTES:
        if CALLS[route.call].is_open:
            app.router.add_route(route.verb, route.path, _guarded(service, route.call, _calling(service, route)))
    app.router.add_get("/metrics", metrics)
    return app


def _aiohttp() -> Any:
    with require("serving HTTP needs aiohttp", extra="serve,cpu"):
        from aiohttp import web
    return web


def _guarded(service: Service, call: str, answer: _Answer) -> Callable[[Any], Awaitable[Any]]:
    """Token, rate and a free place first; then the answer, or the status of what went wrong."""
    web = _aiohttp()

    async def handle(request: Any) -> Any:
        exchange = Exchange("http", call, request.remote or "")
        try:
            if call in CALLS and CALLS[call].is_open:
                response = await answer(request, exchange)  # also of a server that is full or about to end
            else:
                exchange.client = service.access.admit(request.headers.get("Authorization"), exchange.client)
                service.access.spend(exchange.client)
                with service.pending_request():
                    response = await answer(request, exchange)
        except (asyncio.CancelledError, ConnectionResetError):
            service.finished(exchange, code="CANCELLED")
            raise
        except Exception as error:  # the last place where it can be answered
            service.finished(exchange, error)
            return _failed(web, error)
        service.finished(exchange)
        return response

    return handle


def _failed(web: Any, error: Exception) -> Any:
    """An error as the protocol writes it."""
    headers = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = _RETRY_AFTER
    status = code_of(error).http
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response({"error": text_of(error)}, status=status, headers=headers)


def _no_such_path(web: Any) -> Any:
    """Paths and methods that are not there, as the protocol writes errors."""

    async def answer(request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except web.HTTPException as error:
            text = f"{error.reason}: {request.method} {request.path[:200]}"
            return web.json_response({"error": text}, status=error.status)

    return web.middleware(answer)


def _calling(service: Service, route: _Route) -> _Answer:
    """The answer to a path that stands for a call."""
    web = _aiohttp()
    names = dict(route.names)

    async def answer(request: Any, exchange: Exchange) -> Any:
        from google.protobuf import json_format

        fields = parse_object(await _read(request, _SMALL_BODY, service.limits.read_seconds))
        fields["parameters"] = {name: _parameter(value) for name, value in object_in(fields, "parameters").items()}
        fields.update({names[name]: value for name, value in request.match_info.items()})
        try:
            message = json_format.ParseDict(
                fields, getattr(messages(), f"{route.call}Request")(), ignore_unknown_fields=True
            )
        except json_format.ParseError as error:
            raise RequestError(f"the body does not fit this call: {str(error)[:200]}") from None
        response = await answer_call(route.call, service, message)
        if route.flag:
            return _yes_or_no(web, getattr(response, route.flag))
        body: Any = plain(response)
        if route.only:
            body = body[route.only]
        if route.only == "regions":
            body = list(body.values())
        return web.json_response(body) if body or route.verb == "GET" or route.only else web.Response()

    return answer


def _parameter(value: Any) -> dict[str, Any]:
    """A parameter of JSON as a ``ModelRepositoryParameter``."""
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param"}
    if type(value) not in kinds:
        raise RequestError("a parameter is a truth value, a whole number or a text")
    return {kinds[type(value)]: value}


def _yes_or_no(web: Any, answer: bool) -> Any:
    """As Triton says it, which is what its clients look for."""
    return web.Response() if answer else web.json_response({"error": "not ready"}, status=400)


def _inferring(service: Service) -> _Answer:
    """The answer to an inference request."""
    web = _aiohttp()

    async def answer(request: Any, exchange: Exchange) -> Any:
        exchange.model = request.match_info["model"]
        body = await _read(request, service.limits.request_bytes, service.limits.read_seconds)
        text, raw = split_body(body, request.headers.get(LENGTH), service.limits.json_bytes)
        fields = await _parsed(service, text)
        wanted, binary = from_body(fields, raw, exchange.model, request.match_info.get("version", ""))
        exchange.id = wanted.id
        answered = await infer(wanted, service.registry, service.regions, binary=binary)
        exchange.version, exchange.batch = answered.model.version, len(answered.logits)
        header, data = to_body(answered, wanted.id)
        if not data:
            return web.Response(body=header, content_type="application/json")
        headers = {LENGTH: str(len(header)), "Content-Type": "application/octet-stream"}
        return web.Response(body=header + data, headers=headers)

    return answer


async def _parsed(service: Service, text: memoryview) -> dict[str, Any]:
    """The JSON of a body; a long one in a thread, and one at a time, as its values take many times its memory."""
    if len(text) <= _LARGE_JSON:
        return parse_object(text)
    async with service.parsing:
        return await asyncio.to_thread(parse_object, text)


async def _read(request: Any, largest: int, seconds: float) -> memoryview:
    """The body of a request, decompressed.

    Raises:
        TooLargeError: more bytes than allowed.
        DeadlineError: it did not arrive in time.
        RequestError: it cannot be decompressed.
    """
    from aiohttp import ClientPayloadError
    from aiohttp.http_exceptions import HttpProcessingError
    from aiohttp.web import RequestPayloadError

    body, encoding = bytearray(), request.headers.get("Content-Encoding", "identity")
    if encoding.lower() not in _ENCODINGS:
        raise RequestError(f"a body in {' or '.join(_ENCODINGS)} is taken, received {encoding[:40]!r}")
    try:
        async with asyncio.timeout(seconds):
            if (request.content_length or 0) > largest:
                raise TooLargeError(f"at most {largest} bytes are taken, received {request.content_length}")
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > largest:
                    raise TooLargeError(f"at most {largest} bytes are taken, received more")
    except LcveError:
        raise
    except TimeoutError:
        raise DeadlineError(f"the request did not arrive within {seconds:g} s") from None
    except (ClientPayloadError, RequestPayloadError, HttpProcessingError, ValueError) as error:
        raise RequestError(f"the body cannot be read: {str(error)[:200]}") from None
    return memoryview(body)
