"""gRPC server reflection: which services the server has, and their messages. It needs a token if the server uses them.

Source: GRPC Server Reflection Protocol: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from lcve_deploy.errors import DeadlineError, LcveError
from lcve_deploy.libraries.requiring import require
from lcve_deploy.serving.grpc.receiving import abort, authenticate, parse_message, require_origin, small_messages
from lcve_deploy.serving.state import Exchange, ServerState

__all__ = ["reflection_service"]

_NAME: Final = "grpc.reflection.v1alpha.ServerReflection"
_SERVICES: Final = ("inference.GRPCInferenceService", "grpc.health.v1.Health", _NAME)
_IDLE_SECONDS: Final = 5.0
"""Seconds until the next request of a stream: a client asks all that it needs at once."""


def reflection_service(state: ServerState) -> dict[str, dict[str, Any]]:
    """Return the service and its handler.

    Args:
        state: state of the server.

    Raises:
        MissingDependencyError: grpcio-reflection is not installed.
    """
    import grpc

    with require("serving gRPC needs grpcio-reflection", extra="serve,cpu"):
        from grpc_reflection.v1alpha.reflection import aio
        from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
    servicer = aio.ReflectionServicer(_SERVICES)

    async def answer(stream: Any, context: Any) -> AsyncIterator[Any]:
        exchange = Exchange("grpc", "ServerReflection", context.peer())
        try:
            requests = _requests(state, exchange, context, ServerReflectionRequest)
            async for response in servicer.ServerReflectionInfo(requests, context):
                yield response
        except asyncio.CancelledError:
            state.finish(exchange, code="CANCELLED")
            raise
        except LcveError as error:
            state.finish(exchange, error)
            await abort(context, error)
        state.finish(exchange)

    serializer = ServerReflectionResponse.SerializeToString
    return {
        _NAME: {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(answer, response_serializer=serializer)}
    }


async def _requests(state: ServerState, exchange: Exchange, context: Any, kind: Any) -> AsyncIterator[Any]:
    """Yield the requests of a stream; each needs a token and counts against the rate limit.

    Raises:
        LcveError: a request is invalid, late or denied.
    """
    import grpc

    while True:
        require_origin(state, context)
        authenticate(state, exchange, context)
        try:
            with state.small_call():
                async with asyncio.timeout(min(_IDLE_SECONDS, state.limits.read_seconds)):
                    data = await context.read()
        except TimeoutError:
            raise DeadlineError(f"no request arrived within {_IDLE_SECONDS:g} s") from None
        if data is grpc.aio.EOF:
            return
        state.access.count_request(exchange.client)
        yield parse_message(small_messages(kind), data)
