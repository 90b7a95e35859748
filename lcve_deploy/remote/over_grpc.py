"""Call a model on one endpoint over gRPC, with Triton's client."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any, Final

from lcve_deploy.artifact.names import OUTPUT
from lcve_deploy.errors import LcveError, RequestError, SessionError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.libraries.requiring import require
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.protocol.errors import ERROR_METADATA
from lcve_deploy.protocol.retrying import RETRY_PUSHBACK
from lcve_deploy.protocol.sealing import SEALED
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.protocol.timing import SERVER_MICROSECONDS
from lcve_deploy.remote.address import Address, is_local
from lcve_deploy.remote.faults import grpc_fault
from lcve_deploy.remote.limits import MAX_DESCRIPTION_BYTES, max_message_bytes
from lcve_deploy.remote.options import RemoteOptions
from lcve_deploy.remote.sealed import SealedQuestion
from lcve_deploy.remote.shared import Region, RegionPool
from lcve_deploy.remote.tls import tls_context
from lcve_deploy.remote.token import Token
from lcve_deploy.remote.transport import (
    LogitsReply,
    Request,
    Values,
    check_outputs,
    countdown,
    logits_from_bytes,
    stated_seconds,
)
from lcve_deploy.sealing import SealingPublicKey

__all__ = ["GrpcTransport", "read_response"]

_ALIVE: Final = 60.0
"""Minimum seconds between keepalive pings. Servers close connections that ping more often."""
_RECONNECT: Final = (("initial", 100), ("max", 2000))
"""Milliseconds between attempts to connect. gRPC's default maximum, two minutes, exceeds a server's restart."""
_UNCOMPRESSED: Final = 1
"""The only compression that is accepted: none. A compressed message is small only until it is read."""
_VARINT_BITS: Final = 7
"""Bits of a length in each of its bytes, in protobuf."""
_FAREWELL: Final = 2.0
"""Maximum seconds to unregister a shared memory region when a session closes."""


class GrpcTransport:
    """A persistent channel to one endpoint.

    Args:
        address: address of the model.
        endpoint: one endpoint of the address.
        options: session options.
        token: token to send with every call.

    Raises:
        DeniedError: the certificates cannot be used.
        MissingDependencyError: tritonclient is not installed.
    """

    def __init__(self, address: Address, endpoint: str, options: RemoteOptions, token: Token) -> None:
        self._grpc = _library()
        self._address, self._endpoint, self._token, self._options = address, endpoint, token, options
        self._credentials = _credentials(options) if address.scheme.encrypted else None
        self._lock, self._former = Lock(), list[Any]()
        self._max_bytes = MAX_DESCRIPTION_BYTES
        self._client = self._open()
        self._shares = options.shared_memory and is_local(endpoint)
        self._regions = RegionPool()

    def describe(self, seconds: float) -> tuple[Any, Any]:
        """Fetch the model's metadata and configuration."""
        left = countdown(seconds)
        metadata = self._call("get_model_metadata", left(), self._address.model, self._address.version)
        answer = self._call("get_model_config", left(), self._address.model, self._address.version)
        return metadata, answer.config

    def infer(self, request: Request, *, output: ModelOutput, seconds: float) -> LogitsReply:
        """Run one batch, through shared memory if requested and accepted by the server."""
        if self._options.seal_to is not None:
            return self._infer_sealed(request, self._options.seal_to, output, seconds)
        left, shape, name = countdown(seconds), (request.clips, *output.shape), output.kind.value
        self._allow(max_message_bytes(shape))
        result, sent = self._shared(request, left, name), 0
        if result is None:
            result = self._ask(_input(self._grpc, request.input_name, request.values), request, left(), output=name)
            sent = self._message_bytes(request.input_name, request.values, request, name)
        answer = read_response(result.get_response(), shape, self._endpoint, name=name)
        return replace(answer, sent_bytes=sent)

    def _infer_sealed(self, request: Request, to: SealingPublicKey, output: ModelOutput, seconds: float) -> LogitsReply:
        """Seal and run one batch."""
        question = SealedQuestion(request, to, self._address, output=output)
        self._allow(question.max_message_bytes)
        result = self._ask(_input(self._grpc, SEALED, question.values), None, seconds, output=SEALED)
        response = result.get_response()
        if len(response.raw_output_contents) != 1:
            raise SessionError(f"{self._endpoint} did not return a sealed answer")
        described = [(output.name, output.datatype, list(output.shape)) for output in response.outputs[:2]]
        answer = question.read(described, response.raw_output_contents[0], self._endpoint)
        sent = self._message_bytes(SEALED, question.values, None, SEALED)
        return replace(answer, server_seconds=_stated_seconds(response, self._endpoint), sent_bytes=sent)

    def forget(self) -> None:
        """Drop all regions; the server may no longer know them."""
        self._regions.drop()

    def close(self) -> None:
        """Close the channel; unregister and remove the regions."""
        self._regions.drop()
        self._unregister(_FAREWELL)
        for client in (*self._former, self._client):
            client.close()

    def _open(self) -> Any:
        channel_args = _channel_options(self._options, self._max_bytes)
        return self._grpc.InferenceServerClient(self._endpoint, creds=self._credentials, channel_args=channel_args)

    def _allow(self, size: int) -> None:
        """Accept messages of at least this size. The limit belongs to a channel, so a larger one needs another.

        The former channel is kept for requests of other threads.
        """
        with self._lock:
            if size > self._max_bytes:
                self._max_bytes = 1 << size.bit_length()
                self._former.append(self._client)
                self._client = self._open()

    def _shared(self, request: Request, left: Callable[[], float], output: str) -> Any:
        """Return the server's result, or None if the clips must be sent in the message."""
        region = self._region(request.values.nbytes, left) if self._shares else None
        if region is None:
            return None
        try:
            region.fill(request.values)
            data = self._grpc.InferInput(request.input_name, list(request.values.shape), "UINT8")
            data.set_shared_memory(region.name, request.values.nbytes)
            result = self._ask(data, request, left(), output=output)
        except RequestError:  # a restarted server knows no region; one that refuses a new region accepts none
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
        """Return a registered region, or None if memory is short or the server accepts none."""
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
        """Unregister removed regions at the server. Errors are ignored: a restarted server does not know them."""
        left = countdown(min(seconds, _FAREWELL))
        with contextlib.suppress(LcveError):
            for name in self._regions.take_gone():
                self._call("unregister_system_shared_memory", left(), name)

    def _ask(self, data: Any, request: Request | None, seconds: float, *, output: str) -> Any:
        """Send one input; the binding of ``request`` goes with it, unless it is sealed."""
        return self._call(
            "infer",
            seconds,
            self._address.model,
            [data],
            model_version=self._address.version,
            outputs=[self._grpc.InferRequestedOutput(output)],
            parameters=binding_to_parameters(request.binding) if request else {},
        )

    def _message_bytes(self, name: str, values: Values, request: Request | None, output: str) -> int:
        """Return the bytes of the message of ``_ask``, which tritonclient does not tell."""
        binding = binding_to_parameters(request.binding) if request else {}
        head = messages().ModelInferRequest(
            model_name=self._address.model,
            model_version=self._address.version,
            inputs=[{"name": name, "datatype": "UINT8", "shape": values.shape}],
            outputs=[{"name": output}],
            parameters={key: {"string_param": text} for key, text in binding.items()},
            raw_input_contents=[b""],
        )
        length = max(1, -(-values.nbytes.bit_length() // _VARINT_BITS))
        return int(head.ByteSize()) - 1 + length + values.nbytes

    def _call(self, name: str, seconds: float, *given: Any, **more: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, name)(*given, headers=self._token.headers(), client_timeout=seconds, **more)
        except InferenceServerException as error:
            status = (error.status() or "").removeprefix("StatusCode.")
            said = _trailing(error.__context__)
            fault = grpc_fault(
                status,
                error.message() or "",
                self._endpoint,
                pushback=said.get(RETRY_PUSHBACK, ""),
                name=said.get(ERROR_METADATA, ""),
            )
            raise fault.error(self._token, pad=self._options.pad) from None
        except ValueError:  # gRPC raises it for a channel that another thread has closed
            raise SessionError("the session is closed") from None


def _trailing(error: BaseException | None) -> dict[str, str]:
    """Return what the server states with an error of gRPC, such as when to try again.

    tritonclient keeps the error of gRPC only as the context of its own.
    """
    import grpc

    metadata = error.trailing_metadata() if isinstance(error, grpc.Call) else None
    return {name: str(value) for name, value in metadata or ()}


def read_response(response: Any, shape: tuple[int, ...], endpoint: str, *, name: str = OUTPUT) -> LogitsReply:
    """Read the output in a response message.

    Args:
        response: ``ModelInferResponse``.
        shape: expected shape, ``[batch, ...]``.
        endpoint: ``host:port``, for the error.
        name: expected name of the output.

    Raises:
        SessionError: the message does not contain these logits.
    """
    if len(response.outputs) != 1 or len(response.raw_output_contents) != 1:
        raise SessionError(
            f"{endpoint} returned {len(response.outputs)} outputs with {len(response.raw_output_contents)} raw "
            "contents, expected one of each"
        )
    (output,) = response.outputs
    check_outputs([(output.name, output.datatype, list(output.shape))], shape, endpoint, name=name)
    logits = logits_from_bytes(response.raw_output_contents[0], shape, endpoint)
    seconds = _stated_seconds(response, endpoint)
    return LogitsReply(logits=logits, model=response.model_name, version=response.model_version, server_seconds=seconds)


def _stated_seconds(response: Any, endpoint: str) -> float | None:
    """Return the time in the server that a message states, or None if it states none.

    Raises:
        SessionError: it is not a number of microseconds.
    """
    if SERVER_MICROSECONDS not in response.parameters:
        return None
    stated = response.parameters[SERVER_MICROSECONDS]
    choice = stated.WhichOneof("parameter_choice")
    return stated_seconds({SERVER_MICROSECONDS: getattr(stated, choice) if choice else ""}, endpoint)


def _input(grpc: Any, name: str, values: Values) -> Any:
    data = grpc.InferInput(name, list(values.shape), "UINT8")
    data.set_data_from_numpy(values)
    return data


def _channel_options(options: RemoteOptions, max_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.compression_enabled_algorithms_bitset", _UNCOMPRESSED),
        ("grpc.keepalive_time_ms", round(max(_ALIVE, options.deadline) * 1000)),
        ("grpc.use_local_subchannel_pool", 1),
        *((f"grpc.{which}_reconnect_backoff_ms", milliseconds) for which, milliseconds in _RECONNECT),
    ]


def _credentials(options: RemoteOptions) -> Any:
    import grpc

    tls_context(options)  # gRPC accepts any bytes and fails only when it connects
    ca, chain, key = (
        None if path is None else read_bounded(path, "a PEM file", SessionError)
        for path in (options.tls_ca, options.tls_cert, options.tls_key)
    )
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=chain)


def _library() -> Any:
    with require("calling a server over gRPC needs tritonclient", extra="remote"):
        import tritonclient.grpc
    return tritonclient.grpc
