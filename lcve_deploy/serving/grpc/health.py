"""The gRPC service ``grpc.health.v1.Health``: the health of the server, and of each model by its name.

The health of the server (an empty name, or that of the inference service) needs no token, like ``ServerReady``. That
of a model needs one, like ``ModelReady``.

Source: GRPC Health Checking Protocol: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from lcve_deploy.errors import LcveError, UnavailableError, UnknownModelError
from lcve_deploy.libraries.requiring import require
from lcve_deploy.serving.grpc.receiving import (
    abort,
    authorize,
    parse_message,
    read_message,
    require_origin,
    small_messages,
)
from lcve_deploy.serving.state import Exchange, ServerState

__all__ = ["health_service"]

_NAME: Final = "grpc.health.v1.Health"
_SERVER: Final = ("", "inference.GRPCInferenceService")
"""Names of the server itself."""
_MAX_WATCHES: Final = 64
"""Maximum concurrent calls of Watch: they last, and some need no token."""
_POLL_SECONDS: Final = 0.25


def health_service(state: ServerState) -> dict[str, dict[str, Any]]:
    """Return the service and its handlers.

    Args:
        state: state of the server.

    Raises:
        MissingDependencyError: grpcio-health-checking is not installed.
    """
    import grpc

    with require("serving gRPC needs grpcio-health-checking", extra="serve,cpu"):
        from grpc_health.v1.health_pb2 import HealthCheckResponse
    health = _Health(state)

    async def check(stream: Any, context: Any) -> Any:
        return await health.check(context)

    async def watch(stream: Any, context: Any) -> AsyncIterator[Any]:
        async for response in health.watch(context):
            yield response

    serializer = HealthCheckResponse.SerializeToString
    return {
        _NAME: {
            "Check": grpc.stream_unary_rpc_method_handler(check, response_serializer=serializer),
            "Watch": grpc.stream_stream_rpc_method_handler(watch, response_serializer=serializer),
        }
    }


class _Health:
    """The calls of the service."""

    def __init__(self, state: ServerState) -> None:
        from grpc_health.v1 import health_pb2

        self._state, self._messages, self._watches = state, health_pb2, 0

    async def check(self, context: Any) -> Any:
        """Answer whether the server or a model is ready."""
        exchange = Exchange("grpc", "HealthCheck", context.peer())
        try:
            service = await self._service(context, exchange)
            ready = self._is_ready(service)
            if ready is None:
                raise UnknownModelError(f"no model {service[:200]!r}")
        except asyncio.CancelledError:
            self._state.finish(exchange, code="CANCELLED")
            raise
        except LcveError as error:
            self._state.finish(exchange, error)
            await abort(context, error)
        self._state.finish(exchange)
        return self._response(ready)

    async def watch(self, context: Any) -> AsyncIterator[Any]:
        """Answer whether the server or a model is ready, now and after every change, until the server stops."""
        exchange = Exchange("grpc", "HealthWatch", context.peer())
        self._watches += 1
        try:
            if self._watches > _MAX_WATCHES:
                raise UnavailableError(f"{_MAX_WATCHES} clients watch the health already", hint="use Check")
            service = await self._service(context, exchange)
            previous, stopping = None, False
            while not stopping:
                stopping, response = self._state.stopping, self._response(self._is_ready(service))
                if response != previous:
                    yield response
                previous = response
                if not stopping:
                    await asyncio.sleep(_POLL_SECONDS)
        except asyncio.CancelledError:
            self._state.finish(exchange, code="CANCELLED")
            raise
        except LcveError as error:
            self._state.finish(exchange, error)
            await abort(context, error)
        finally:
            self._watches -= 1
        self._state.finish(exchange)

    async def _service(self, context: Any, exchange: Exchange) -> str:
        """Read the name that a client asks for; check the token unless it is the server's.

        Raises:
            LcveError: the request is invalid, late or denied.
        """
        require_origin(self._state, context)
        with self._state.small_call():
            data = await read_message(self._state, context)
        service: str = parse_message(small_messages(self._messages.HealthCheckRequest), data).service
        if service not in _SERVER:
            authorize(self._state, exchange, context)
            exchange.model = service
        return service

    def _is_ready(self, service: str) -> bool | None:
        """Return whether the server or a model is ready; None for an unknown model."""
        state = self._state
        if service in _SERVER:
            return state.ready
        if service not in state.registry.names:
            return None
        return bool(state.registry.versions(service)) and not state.stopping

    def _response(self, ready: bool | None) -> Any:
        status = {True: "SERVING", False: "NOT_SERVING", None: "SERVICE_UNKNOWN"}[ready]
        return self._messages.HealthCheckResponse(status=status)
