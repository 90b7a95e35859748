"""gRPC server: the handlers of ``inference.GRPCInferenceService``.

Unary calls are handled as streaming requests, which look the same on the wire. So the token, the rate and the number
of requests in progress are checked before a message is read into memory, and reading has a timeout.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any, Final

from lcve_deploy.errors import DeadlineError, LcveError, RequestError, TooLargeError
from lcve_deploy.libraries.requiring import require
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.calls import CALLS, answer_call
from lcve_deploy.serving.codes import client_message, code_of
from lcve_deploy.serving.grpc.messages import from_message, to_message
from lcve_deploy.serving.grpc.wire import RawRequest, message_reader
from lcve_deploy.serving.sealing import infer_any
from lcve_deploy.serving.state import Exchange, ServerState

__all__ = ["start_grpc"]

_SERVICE: Final = "inference.GRPCInferenceService"
_FINAL_RESPONSE: Final = "triton_final_response"
_MAX_CALL_BYTES: Final = 1 << 16
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
    options = {
        "grpc.max_receive_message_length": state.limits.request_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.so_reuseport": 0,
        "grpc.max_concurrent_streams": state.limits.requests,
        "grpc.http2.min_ping_interval_without_data_ms": 10_000,
    }
    server = grpc.aio.server(options=list(options.items()))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, _handlers(state)),))
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
            name, state, _parse(_small_message_reader(getattr(pb, f"{name}Request")), data), exchange
        )

    async def stream(requests: Any, context: Any) -> AsyncIterator[Any]:
        async for response in _stream(state, read_infer, context):
            yield response

    return {
        **{name: handler(name, call(name)) for name in CALLS},
        "ModelInfer": handler("ModelInfer", lambda data, exchange: _infer(state, _parse(read_infer, data), exchange)),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
            stream, response_serializer=pb.ModelStreamInferResponse.SerializeToString
        ),
    }


def _small_message_reader(kind: Any) -> Callable[[bytes], Any]:
    """Return a function that parses a message without tensors, of at most ``_MAX_CALL_BYTES`` bytes."""

    def read(data: bytes) -> Any:
        if len(data) > _MAX_CALL_BYTES:
            raise TooLargeError(f"this call accepts at most {_MAX_CALL_BYTES} bytes, received {len(data)}")
        return kind.FromString(data)

    return read


def _parse(read: Callable[[bytes], Any], data: bytes) -> Any:
    """Parse a message.

    If gRPC parsed it, invalid bytes would be reported as an error of the server.

    Raises:
        RequestError: the bytes are not a valid message.
        TooLargeError: the message is too large.
    """
    from google.protobuf.message import DecodeError

    try:
        return read(data)
    except DecodeError:
        raise RequestError("the bytes are not a valid message of this call") from None


async def _unary(
    state: ServerState, name: str, answer: Callable[[bytes, Exchange], Awaitable[Any]], context: Any
) -> Any:
    """Answer one call, or abort it with the status of the error."""
    import grpc

    exchange = Exchange("grpc", name, context.peer())
    try:
        _authorize(state, exchange, context)
        with nullcontext() if _is_public(name) else state.pending_request():
            message = await _read(state, context)
            response = await answer(message, exchange)
    except asyncio.CancelledError:
        state.finish(exchange, code="CANCELLED")
        raise
    except grpc.aio.AbortError:
        raise
    except Exception as error:  # last chance to send an error to the client
        state.finish(exchange, error)
        await context.abort(grpc.StatusCode[code_of(error).grpc], client_message(error))
    state.finish(exchange)
    return response


def _authorize(state: ServerState, exchange: Exchange, context: Any) -> None:
    """Check the origin, the token and the rate limit, before anything is read. Sets the client of the exchange.

    Raises:
        ForbiddenError: a proxy for gRPC-Web passes on a request of a web page whose origin is not accepted.
        DeniedError: the token is missing or unknown.
        RateError: the client exceeded its rate.
    """
    metadata = dict(context.invocation_metadata() or ())
    state.web.require(origin=metadata.get("origin"))
    if _is_public(exchange.call):
        return
    address = exchange.client.rpartition(":")[0]
    exchange.client = state.access.authenticate(metadata.get("authorization"), address)
    state.access.count_request(exchange.client)


def _is_public(name: str) -> bool:
    """Whether a call needs no token, and is answered even if the server is full or shutting down."""
    return name in CALLS and CALLS[name].is_public


async def _read(state: ServerState, context: Any) -> Any:
    import grpc

    try:
        async with asyncio.timeout(state.limits.read_seconds):
            message = await context.read()
    except TimeoutError:
        raise DeadlineError(f"the request did not arrive within {state.limits.read_seconds:g} s") from None
    if message is grpc.aio.EOF:
        raise RequestError("the call ended before it sent a request")
    return message


async def _infer(state: ServerState, request: RawRequest, exchange: Exchange) -> Any:
    """Answer one ``ModelInferRequest``."""
    message = request.message
    exchange.model, exchange.id = message.model_name, message.id
    response = await infer_any(
        from_message(message, request.raw), state.registry, state.regions_of(exchange), state.sealing
    )
    exchange.version, exchange.batch = response.model.version, len(response.logits)
    return to_message(response, message.id)


async def _stream(state: ServerState, read: Callable[[bytes], RawRequest], context: Any) -> AsyncIterator[Any]:
    """Answer the requests of a stream in order; up to ``_MAX_STREAM_REQUESTS`` are in progress."""
    import grpc

    exchange = Exchange("grpc", "ModelStreamInfer", context.peer())
    try:
        _authorize(state, exchange, context)
    except LcveError as error:
        state.finish(exchange, error)
        await context.abort(grpc.StatusCode[code_of(error).grpc], client_message(error))
    work: deque[asyncio.Task[Any]] = deque()
    try:
        message = await context.read()
        while message is not grpc.aio.EOF:
            work.append(asyncio.create_task(_stream_response(state, read, message, exchange)))
            reading = asyncio.ensure_future(context.read())
            while work and (len(work) >= _MAX_STREAM_REQUESTS or not reading.done()):
                await asyncio.wait(
                    [work[0], *([reading] if len(work) < _MAX_STREAM_REQUESTS else [])], return_when="FIRST_COMPLETED"
                )
                while work and work[0].done():
                    yield work.popleft().result()
            message = await reading
        while work:
            yield await work.popleft()
    finally:
        for task in work:
            task.cancel()


async def _stream_response(
    state: ServerState, read: Callable[[bytes], RawRequest], data: bytes, stream: Exchange
) -> Any:
    """Return one message of a stream: a response, or an error message."""
    pb = messages()
    exchange = Exchange("grpc", "ModelStreamInfer", stream.address)
    exchange.client = stream.client
    try:
        state.access.count_request(exchange.client)
        with state.pending_request():
            response = await _infer(state, _parse(read, data), exchange)
    except Exception as error:  # last chance to send an error to the client
        state.finish(exchange, error)
        failed = pb.ModelInferResponse(model_name=exchange.model, id=exchange.id)
        return pb.ModelStreamInferResponse(error_message=client_message(error), infer_response=failed)
    state.finish(exchange)
    response.parameters[_FINAL_RESPONSE].bool_param = True
    return pb.ModelStreamInferResponse(infer_response=response)
