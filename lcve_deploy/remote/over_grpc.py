"""A model at one endpoint, over gRPC, with the client of Triton."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

from lcve_deploy.artifact.names import INPUT, OUTPUT
from lcve_deploy.errors import LcveError, RequestError, SessionError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.libraries.requiring import require
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.remote.address import Address, is_local
from lcve_deploy.remote.faults import grpc_fault
from lcve_deploy.remote.options import RemoteOptions
from lcve_deploy.remote.shared import Region, RegionPool
from lcve_deploy.remote.tls import tls_context
from lcve_deploy.remote.token import Token
from lcve_deploy.remote.transport import MAX_RESPONSE_BYTES, LogitsReply, Request, countdown, read_logits

__all__ = ["GrpcTransport", "read_response"]

_ALIVE: Final = 60.0
"""Seconds between questions whether a connection still is one. Servers take offence at less."""
_RECONNECT: Final = (("initial", 100), ("max", 2000))
"""Milliseconds between attempts to connect; the library goes up to two minutes, longer than a server restarts."""
_FAREWELL: Final = 2.0
"""Seconds for a server to forget a region when a session closes."""


class GrpcTransport:
    """A channel to one endpoint, kept open.

    Args:
        address: of the model.
        endpoint: one of the address.
        options: of the session.
        token: sent with every call.

    Raises:
        DeniedError: certificates that cannot be used.
        MissingDependencyError: tritonclient is not installed.
    """

    def __init__(self, address: Address, endpoint: str, options: RemoteOptions, token: Token) -> None:
        self._grpc = _library()
        self._address, self._endpoint, self._token = address, endpoint, token
        self._client = self._grpc.InferenceServerClient(
            endpoint,
            creds=_credentials(options) if address.scheme.encrypted else None,
            channel_args=_channel_options(options),
        )
        self._shares = options.shared_memory and is_local(endpoint)
        self._regions = RegionPool()

    def describe(self, seconds: float) -> tuple[Any, Any]:
        """What the server says of the model."""
        left = countdown(seconds)
        metadata = self._call("get_model_metadata", left(), self._address.model, self._address.version)
        answer = self._call("get_model_config", left(), self._address.model, self._address.version)
        return metadata, answer.config

    def infer(self, request: Request, *, classes: int, seconds: float) -> LogitsReply:
        """Answer clips; through shared memory where that was asked for and the server takes it."""
        left = countdown(seconds)
        result = self._shared(request, left)
        if result is None:
            result = self._ask(request, _plain_input(self._grpc, request), left())
        return read_response(result.get_response(), (len(request.values), classes), self._endpoint)

    def forget(self) -> None:
        """Regions have to be registered again."""
        self._regions.drop()

    def close(self) -> None:
        """End the channel; unregister and remove the regions."""
        self._regions.drop()
        self._unregister(_FAREWELL)
        self._client.close()

    def _shared(self, request: Request, left: Callable[[], float]) -> Any:
        """The server's result, or None where clips have to be sent."""
        region = self._region(request.values.nbytes, left) if self._shares else None
        if region is None:
            return None
        try:
            region.fill(request.values)
            data = self._grpc.InferInput(INPUT, list(request.values.shape), "UINT8")
            data.set_shared_memory(region.name, request.values.nbytes)
            result = self._ask(request, data, left())
        except RequestError:  # a server that was started anew knows no region; one that refuses a new one takes none
            self._shares = region.answered
            self._regions.remove(region)
            self._regions.drop()
            return None
        except BaseException:
            self._regions.remove(region)
            raise
        region.answered = True
        self._regions.give_back(region)
        return result

    def _region(self, size: int, left: Callable[[], float]) -> Region | None:
        """One that the server knows; None where there is no room for it, or the server takes none."""
        self._unregister(left())
        region = self._regions.take(size)
        if region is not None:
            return region
        try:
            region = self._regions.make(size)
        except SessionError:
            self._shares = False
            return None
        try:
            self._call("register_system_shared_memory", left(), region.name, region.key, size)
        except LcveError as error:
            self._regions.remove(region)
            if not isinstance(error, RequestError | SessionError):
                raise
            self._shares = False
            return None
        return region

    def _unregister(self, seconds: float) -> None:
        """What is removed here goes at the server too; one that was started anew does not know it."""
        with contextlib.suppress(LcveError):
            for name in self._regions.take_gone():
                self._call("unregister_system_shared_memory", min(seconds, _FAREWELL), name)

    def _ask(self, request: Request, data: Any, seconds: float) -> Any:
        return self._call(
            "infer",
            seconds,
            self._address.model,
            [data],
            model_version=self._address.version,
            outputs=[self._grpc.InferRequestedOutput(OUTPUT)],
            parameters=binding_to_parameters(request.binding),
        )

    def _call(self, name: str, seconds: float, *given: Any, **more: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, name)(*given, headers=self._token.headers(), client_timeout=seconds, **more)
        except InferenceServerException as error:
            status = (error.status() or "").removeprefix("StatusCode.")
            raise grpc_fault(status, error.message() or "", self._endpoint).error(self._token) from None
        except ValueError:  # what gRPC raises of a channel that another thread has closed
            raise SessionError("the session is closed") from None


def read_response(response: Any, shape: tuple[int, int], endpoint: str) -> LogitsReply:
    """The answer that a message holds.

    Args:
        response: ``ModelInferResponse``.
        shape: ``[batch, classes]`` of the logits that were asked for.
        endpoint: ``host:port``, for the error.

    Raises:
        SessionError: anything else.
    """
    from tritonclient.grpc import InferResult

    outputs = [(output.name, output.datatype, list(output.shape)) for output in response.outputs]
    logits = read_logits(InferResult(response), outputs, shape, endpoint)
    return LogitsReply(logits=logits, model=response.model_name, version=response.model_version)


def _plain_input(grpc: Any, request: Request) -> Any:
    data = grpc.InferInput(INPUT, list(request.values.shape), "UINT8")
    data.set_data_from_numpy(request.values)
    return data


def _channel_options(options: RemoteOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
        ("grpc.keepalive_time_ms", round(max(_ALIVE, options.deadline) * 1000)),
        ("grpc.use_local_subchannel_pool", 1),
        *((f"grpc.{which}_reconnect_backoff_ms", milliseconds) for which, milliseconds in _RECONNECT),
    ]


def _credentials(options: RemoteOptions) -> Any:
    import grpc

    tls_context(options)  # gRPC takes any bytes, and fails when it connects
    ca, chain, key = (
        None if path is None else read_bounded(path, "a PEM file", SessionError)
        for path in (options.tls_ca, options.tls_cert, options.tls_key)
    )
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=chain)


def _library() -> Any:
    with require("speaking to a server over gRPC needs tritonclient", extra="remote"):
        import tritonclient.grpc
    return tritonclient.grpc
