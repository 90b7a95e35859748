"""What all gRPC calls share: check the client, read and parse a message, and abort with the status of an error."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, NoReturn

from lcve_deploy.errors import DeadlineError, RequestError, TooLargeError
from lcve_deploy.protocol.errors import ERROR_METADATA
from lcve_deploy.protocol.retrying import RETRY_PUSHBACK
from lcve_deploy.serving.codes import client_message, code_of, name_of, retry_seconds
from lcve_deploy.serving.state import Exchange, ServerState

__all__ = ["abort", "authenticate", "authorize", "parse_message", "read_message", "require_origin", "small_messages"]

_MAX_CALL_BYTES: Final = 1 << 16


def require_origin(state: ServerState, context: Any) -> None:
    """Refuse requests of web pages, which a proxy for gRPC-Web passes on, unless their origin is accepted.

    Raises:
        ForbiddenError: the origin is not accepted.
    """
    state.web.require(origin=dict(context.invocation_metadata() or ()).get("origin"))


def authenticate(state: ServerState, exchange: Exchange, context: Any) -> None:
    """Check the token. Sets the client of the exchange.

    Raises:
        DeniedError: the token is missing or unknown.
    """
    _authenticate(state, exchange, dict(context.invocation_metadata() or ()))


def _authenticate(state: ServerState, exchange: Exchange, metadata: dict[str, str]) -> None:
    address = exchange.address.rpartition(":")[0]
    exchange.identify(state.access.authenticate(metadata.get("authorization"), address))


def authorize(state: ServerState, exchange: Exchange, context: Any) -> None:
    """Check the origin, the token and the rate limit. Sets the client of the exchange.

    Raises:
        ForbiddenError: the request is of a web page whose origin is not accepted.
        DeniedError: the token is missing or unknown.
        RateError: the client exceeded its rate.
    """
    metadata = dict(context.invocation_metadata() or ())
    state.web.require(origin=metadata.get("origin"))
    _authenticate(state, exchange, metadata)
    state.access.count_request(exchange.client)


async def read_message(state: ServerState, context: Any) -> Any:
    """Read the message of a unary call, as bytes.

    Raises:
        DeadlineError: it did not arrive in time.
        RequestError: there is none.
    """
    import grpc

    try:
        async with asyncio.timeout(state.limits.read_seconds):
            message = await context.read()
    except TimeoutError:
        raise DeadlineError(f"the request did not arrive within {state.limits.read_seconds:g} s") from None
    if message is grpc.aio.EOF:
        raise RequestError("the call ended before it sent a request")
    return message


def small_messages(kind: Any) -> Callable[[bytes], Any]:
    """Return a function that parses a message without tensors, of at most ``_MAX_CALL_BYTES`` bytes."""

    def read(data: bytes) -> Any:
        if len(data) > _MAX_CALL_BYTES:
            raise TooLargeError(f"this call accepts at most {_MAX_CALL_BYTES} bytes, received {len(data)}")
        return kind.FromString(data)

    return read


def parse_message(read: Callable[[bytes], Any], data: bytes) -> Any:
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


async def abort(context: Any, error: Exception) -> NoReturn:
    """End a call with the status of an error, and say when to try again if that may help.

    Source: gRFC A6, client retries: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
    """
    import grpc

    seconds = retry_seconds(error)
    trailing = [] if seconds is None else [(RETRY_PUSHBACK, str(math.ceil(1e3 * seconds)))]
    if name := name_of(error):
        trailing.append((ERROR_METADATA, name))
    await context.abort(grpc.StatusCode[code_of(error).grpc], client_message(error), tuple(trailing))
    raise error  # abort raises
