"""gRPC server: the handlers of ``inference.GRPCInferenceService``.

Unary calls are handled as streaming requests, which look the same on the wire. So the token, the rate and the number
of requests in progress are checked before a message is read into memory, and reading has a timeout. An open stream
counts against a maximum of its own, because it may hold a message that has not arrived completely.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from lcve_deploy.errors import DeadlineError, LcveError, RequestError, UnavailableError
from lcve_deploy.libraries.requiring import require
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.calls import CALLS, answer_call
from lcve_deploy.serving.codes import client_message
from lcve_deploy.serving.grpc.health import health_service
from lcve_deploy.serving.grpc.messages import from_message, to_message
from lcve_deploy.serving.grpc.receiving import (
    abort,
    authenticate,
    authorize,
    parse_message,
    read_message,
    require_origin,
    small_messages,
)
from lcve_deploy.serving.grpc.reflection import reflection_service
from lcve_deploy.serving.grpc.wire import RawRequest, message_reader
from lcve_deploy.serving.sealing import AcceptedRequest, accept, infer_any
from lcve_deploy.serving.sizes import max_message_bytes
from lcve_deploy.serving.state import Exchange, ServerState

__all__ = ["start_grpc"]

_SERVICE: Final = "inference.GRPCInferenceService"
_FINAL_RESPONSE: Final = "triton_final_response"
_IDLE_MS: Final = 300_000
_PING_MS: Final = 60_000
_WINDOW_BYTES: Final = 1 << 16
"""Bytes that a client may send of a message that nothing reads yet."""
_MAX_STREAM_REQUESTS: Final = 8
"""Maximum requests of one stream in progress."""


async def start_grpc(state: ServerState, host: str, port: int, credentials: Any) -> tuple[Any, int]:
    """Start the gRPC server.

    Args:
        state: state of the server.
        host: address to listen on.
        port: port to listen on; 0 lets the system choose.
        credentials: TLS credentials; None for plain connections.

    Returns:
        The gRPC server and its port.

    Raises:
        RequestError: the port is unavailable.
        MissingDependencyError: grpcio is not installed.
    """
    with require("serving gRPC needs grpcio", extra="serve,cpu"):
        import grpc
    state.grpc_bytes = max_message_bytes(state.registry, state.limits)
    server = grpc.aio.server(options=list(_options(state, state.grpc_bytes).items()))
    services = {_SERVICE: _handlers(state), **health_service(state), **reflection_service(state)}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, handlers) for name, handlers in services.items()]
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = (
            server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
        )
    except RuntimeError:
        raise RequestError(
            f"gRPC cannot listen on {address}",
            hint="if the port is in use, choose another, or any free one with --grpc-port 0",
        ) from None
    await server.start()
    return server, bound


def _options(state: ServerState, max_bytes: int) -> dict[str, int]:
    """Return options of gRPC that bound what connections hold before a handler knows of them."""
    limits = state.limits
    return {
        "grpc.max_receive_message_length": max_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.so_reuseport": 0,
        "grpc.max_concurrent_streams": limits.requests,
        "grpc.max_allowed_incoming_connections": limits.connections,
        "grpc.server_handshake_timeout_ms": round(1e3 * limits.read_seconds),
        "grpc.max_connection_idle_ms": _IDLE_MS,
        "grpc.keepalive_time_ms": _PING_MS,
        "grpc.http2.min_ping_interval_without_data_ms": 10_000,
        "grpc.http2.bdp_probe": 0,
        "grpc.http2.lookahead_bytes": _WINDOW_BYTES,
    }


def _handlers(state: ServerState) -> dict[str, Any]:
    import grpc

    pb = messages()
    read_infer = message_reader()

    def handler(name: str, answer: Callable[[bytes, Exchange], Awaitable[Any]]) -> Any:
        async def handle(stream: Any, context: Any) -> Any:
            return await _unary(state, name, answer, context)

        serializer = getattr(pb, f"{name}Response").SerializeToString
        return grpc.stream_unary_rpc_method_handler(handle, response_serializer=serializer)

    def call(name: str) -> Callable[[bytes, Exchange], Awaitable[Any]]:
        return lambda data, exchange: answer_call(
            name, state, parse_message(small_messages(getattr(pb, f"{name}Request")), data), exchange
        )

    async def stream(requests: Any, context: Any) -> None:
        await _stream(state, read_infer, context)

    return {
        **{name: handler(name, call(name)) for name in CALLS},
        "ModelInfer": handler("ModelInfer", lambda data, exchange: _infer(state, read_infer, data, exchange)),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
            stream, response_serializer=pb.ModelStreamInferResponse.SerializeToString
        ),
    }


async def _unary(
    state: ServerState, name: str, answer: Callable[[bytes, Exchange], Awaitable[Any]], context: Any
) -> Any:
    """Answer one call, or abort it with the status of the error."""
    import grpc

    exchange = Exchange("grpc", name, context.peer())
    remaining = context.time_remaining()
    exchange.deadline = exchange.started + remaining if remaining else None  # gRPC itself ends a call that is late
    try:
        is_public = name in CALLS and CALLS[name].is_public  # answered even if the server is full or shutting down
        if is_public:
            require_origin(state, context)
        else:
            authorize(state, exchange, context)
        with state.small_call() if is_public else state.pending_request():
            message = await read_message(state, context)
            response = await answer(message, exchange)
    except asyncio.CancelledError:
        state.finish(exchange, code="CANCELLED")
        raise
    except grpc.aio.AbortError:
        raise
    except Exception as error:  # last chance to send an error to the client
        state.finish(exchange, error)
        await abort(context, error)
    state.finish(exchange)
    return response


async def _infer(state: ServerState, read: Callable[[bytes], RawRequest], data: bytes, exchange: Exchange) -> Any:
    """Answer one ``ModelInferRequest``."""
    accepted = await _accept(state, parse_message(read, data), exchange)
    response = await infer_any(accepted, state.regions_of(exchange))
    exchange.version, exchange.batch = response.model.version, len(response.logits)
    return to_message(response, accepted.prepared.id)


async def _accept(state: ServerState, request: RawRequest, exchange: Exchange) -> AcceptedRequest:
    """Validate a request. Sets model, id and key of the exchange. The message is released with this function."""
    message = request.message
    exchange.model, exchange.id = message.model_name, message.id
    infer_request = from_message(message, request.raw)
    if exchange.deadline is not None:
        infer_request = dataclasses.replace(infer_request, timeout=exchange.timeout(infer_request.timeout))
    regions = state.regions_of(exchange)
    accepted = await accept(infer_request, state.registry, regions, state.sealing, allowed=exchange.keys)
    exchange.key = accepted.prepared.key_name
    return accepted


async def _stream(state: ServerState, read: Callable[[bytes], RawRequest], context: Any) -> None:
    """Answer the requests of a stream in order; up to ``_MAX_STREAM_REQUESTS`` are in progress.

    The token is checked for each of them: it may have been removed since the stream began.
    """
    exchange = Exchange("grpc", "ModelStreamInfer", context.peer())
    try:
        authorize(state, exchange, context)
        with state.open_stream():
            async with aclosing(_stream_responses(state, read, context, exchange)) as responses:
                async for response in responses:
                    await _write(state, context, response)
    except LcveError as error:
        state.finish(exchange, error)
        await abort(context, error)


async def _write(state: ServerState, context: Any, response: Any) -> None:
    """Send one response of a stream.

    Raises:
        DeadlineError: the client did not take it in time.
    """
    try:
        async with asyncio.timeout(state.limits.read_seconds):
            await context.write(response)
    except TimeoutError:
        raise DeadlineError(f"a response was not taken within {state.limits.read_seconds:g} s") from None


async def _stream_responses(
    state: ServerState, read: Callable[[bytes], RawRequest], context: Any, exchange: Exchange
) -> AsyncGenerator[Any, None]:
    """Yield the responses to the requests of a stream, until the client or the server ends it.

    Raises:
        DeniedError: the token was removed since the stream began.
        UnavailableError: the server is shutting down.
        DeadlineError: no request arrived in time.
    """
    import grpc

    work: deque[asyncio.Task[Any]] = deque()
    reading, stopped = asyncio.ensure_future(context.read()), asyncio.ensure_future(state.stopped.wait())
    try:
        while True:
            has_space = len(work) < _MAX_STREAM_REQUESTS
            waiting = [work[0]] if work else [stopped]
            limit = None if work else state.limits.read_seconds
            await asyncio.wait(
                [*waiting, *([reading] if has_space else [])], timeout=limit, return_when="FIRST_COMPLETED"
            )
            if work and work[0].done():
                yield work.popleft().result()
            elif has_space and reading.done():
                message = reading.result()
                if message is grpc.aio.EOF:
                    break
                authenticate(state, exchange, context)
                work.append(asyncio.create_task(_stream_response(state, read, message, exchange)))
                reading = asyncio.ensure_future(context.read())
            elif stopped.done():
                raise UnavailableError("the server is shutting down", hint="use another server")
            else:
                raise DeadlineError(f"no request of the stream arrived within {state.limits.read_seconds:g} s")
        while work:
            yield await work.popleft()
    finally:
        for task in (*work, reading, stopped):
            task.cancel()


async def _stream_response(
    state: ServerState, read: Callable[[bytes], RawRequest], data: bytes, stream: Exchange
) -> Any:
    """Return one message of a stream: a response, or an error message."""
    pb = messages()
    exchange = Exchange("grpc", "ModelStreamInfer", stream.address)
    exchange.client, exchange.keys = stream.client, stream.keys
    try:
        state.access.count_request(exchange.client)
        with state.pending_request():
            response = await _infer(state, read, data, exchange)
    except asyncio.CancelledError:
        state.finish(exchange, code="CANCELLED")
        raise
    except Exception as error:  # last chance to send an error to the client
        state.finish(exchange, error)
        failed = pb.ModelInferResponse(model_name=exchange.model, id=exchange.id)
        return pb.ModelStreamInferResponse(error_message=client_message(error), infer_response=failed)
    state.finish(exchange)
    response.parameters[_FINAL_RESPONSE].bool_param = True
    return pb.ModelStreamInferResponse(infer_response=response)
