"""``RemoteSession``: a model on remote servers with the interface of a local session."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import Event
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np

from lcve_deploy.clips import Binding, EncryptedClip
from lcve_deploy.encrypted_model import run_each
from lcve_deploy.errors import RequestError, SessionError
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.packing import require_pad
from lcve_deploy.remote.address import Address, Scheme, is_local
from lcve_deploy.remote.contract import AgreedOutput, RemoteModel
from lcve_deploy.remote.endpoints import Endpoint, Endpoints
from lcve_deploy.remote.measured import MeasuredRun
from lcve_deploy.remote.options import RemoteOptions
from lcve_deploy.remote.retrying import persist
from lcve_deploy.remote.token import PlainTokenWarning, Token
from lcve_deploy.remote.transport import Logits, LogitsReply, Transport, Values

__all__ = ["RemoteSession"]

_Answer = TypeVar("_Answer")

_DEFAULTS: Final = RemoteOptions()
_FIRST_CONTACT: Final = 0.5
"""Share of the deadline for the first contact with one of several endpoints; the rest is left for another."""


class RemoteSession:
    """A model on one or several servers that speak the Open Inference Protocol. Threads may share it.

    Nothing is sent before ``connect`` or the first clip. As a context manager it calls ``close`` at its end.

    Args:
        address: such as ``grpc://one:8001,two:8001/model``, ``grpcs://``, ``http://``, ``https://``; a version may
            follow the model. The first endpoint is preferred.
        binding: binding of the clips to send; clips of any other are refused before anything is sent.
        options: deadline, retries, token, TLS, shared memory, sealing, padding.
        output: expected output, from ``client.json``; by default that of the first server that answers.

    Raises:
        RequestError: the address is invalid, or the options do not apply to it.
        DeniedError: the token or certificates cannot be used.
        EncryptedClipError: clips are to be padded, and all have the same length.
        MissingDependencyError: tritonclient is not installed.
    """

    def __init__(
        self,
        address: str | Address,
        binding: Binding,
        options: RemoteOptions = _DEFAULTS,
        *,
        output: ModelOutput | None = None,
    ) -> None:
        self._address = address if isinstance(address, Address) else Address.parse(address)
        self._binding, self._options, self._closed = binding, options, Event()
        _check_options(self._address, options)
        require_pad(options.pad, binding)
        token = Token.read(options)
        _warn_of_plain(self._address, token)
        agreed = AgreedOutput(output)
        members = [
            Endpoint(
                name,
                self._address,
                binding,
                _transport(self._address, name, options, token),
                output=agreed,
                sealed=options.seal_to is not None,
                pad=options.pad,
            )
            for name in self._address.endpoints
        ]
        self._endpoints = Endpoints(members, rest=options.rest)

    @property
    def address(self) -> Address:
        """Address of the model."""
        return self._address

    @property
    def binding(self) -> Binding:
        """Binding of the clips that the session accepts."""
        return self._binding

    def connect(self) -> RemoteModel:
        """Check that a server answers and that its model is for these clips.

        Raises:
            MismatchError: the model is not for these clips.
            LcveError: as for ``run``.
        """
        return self._persist(lambda endpoint, left: endpoint.model(left))

    def run(self, clip: EncryptedClip) -> Logits:
        """Return the logits of encrypted clips, or another output, in the artifact's own order.

        More clips than the server's maximum batch go in several requests, each with its own deadline.

        Args:
            clip: uint8 values ``[batch, N, L]`` or ``[batch, T, H, W, C]``, or records ``[batch]``; at least one.

        Returns:
            float32 ``[batch, classes]``, or ``[batch, ...]`` of another output. The caller must check that
            the values are finite.

        Raises:
            MismatchError: the clip, or the server's model, is for another artifact; no clip has been sent.
            UnavailableError: no endpoint answered, including retries.
            DeadlineError: no endpoint answered in time.
            DeniedError: the server refused the token or certificate, or its own certificate is not trusted.
            RequestError: the server refused the request.
            SealingError: the answer was changed, belongs to another request, or was not made by the holder of the key
                that requests are sealed to.
            SessionError: the server failed or did not return the logits of these clips, or this session is closed.
            ValueError: the clip is not a non-empty batch of uint8 values or records.
        """
        return self.run_measured(clip).logits

    def run_measured(self, clip: EncryptedClip) -> MeasuredRun:
        """Run encrypted clips as ``run`` does, and say what was sent and how long the server took.

        Raises:
            LcveError, ValueError: as for ``run``.
        """
        values = self._checked(clip)
        parts: list[LogitsReply] = []
        while len(values):
            parts.append(self._persist(partial(self._ask, values)))
            values = values[len(parts[-1].logits) :]
        return MeasuredRun.of(parts)

    def map(self, clips: Iterable[EncryptedClip], *, in_flight: int = 4) -> Iterator[Logits]:
        """Yield the logits of each of many clips in order, with several concurrent requests.

        Args:
            clips: encrypted clips, read one by one, at most ``in_flight`` ahead of the logits.
            in_flight: maximum concurrent requests; at least 1.

        Raises:
            LcveError: as for ``run``, after running requests have ended; no more are sent.
        """
        return run_each(self, clips, in_flight=in_flight)

    def close(self) -> None:
        """Close all connections and remove shared memory, here and at the servers. Running requests may fail."""
        if not self._closed.is_set():
            self._closed.set()
            for endpoint in self._endpoints.members:
                endpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteSession({str(self._address)!r})"

    def _checked(self, clip: EncryptedClip) -> Values:
        self._binding.require(clip.binding, here="session", there="encrypted clip")
        values, shape = clip.values, self._binding.layout.shape(self._binding.geometry)
        if self._binding.packed:
            if values.ndim != 1:
                raise ValueError(f"expected clips with one batch axis, received the shape {list(values.shape)}")
        elif not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.ndim != len(shape) + 1:
            raise ValueError(f"expected a NumPy array of uint8 clips [batch, {str(list(shape))[1:]}")
        if not len(values):
            raise ValueError("expected at least one clip, received none")
        checked: Values = values
        return checked

    def _ask(self, values: Values, endpoint: Endpoint, left: float) -> LogitsReply:
        alone = len(self._endpoints.members) == 1
        return endpoint.run(values, left, first_contact=left if alone else left * _FIRST_CONTACT)

    def _persist(self, ask: Callable[[Endpoint, float], _Answer]) -> _Answer:
        if self._closed.is_set():
            raise SessionError("the session is closed")
        return persist(ask, self._endpoints, self._options, pause=self._closed.wait)


def _check_options(address: Address, options: RemoteOptions) -> None:
    if options.tls_files and not address.scheme.encrypted:
        raise RequestError(
            f"certificates need TLS, but {address.scheme}:// does not use it", hint="write grpcs:// or https://"
        )
    local = address.scheme in (Scheme.GRPC, Scheme.GRPCS) and any(map(is_local, address.endpoints))
    if options.shared_memory and not local:
        raise RequestError(
            f"shared memory needs a gRPC server on this machine, received the address {address}",
            hint="write grpc://localhost:8001/model, or send clips without shared memory",
        )


def _warn_of_plain(address: Address, token: Token) -> None:
    if token and not address.scheme.encrypted and not all(map(is_local, address.endpoints)):
        warnings.warn(
            f"the token is sent to {address} without TLS, so anyone on the network can read it; use grpcs:// or https://",
            PlainTokenWarning,
            stacklevel=3,
        )


def _transport(address: Address, endpoint: str, options: RemoteOptions, token: Token) -> Transport:
    if address.scheme in (Scheme.HTTP, Scheme.HTTPS):
        from lcve_deploy.remote.over_http import HttpTransport

        return HttpTransport(address, endpoint, options, token)
    from lcve_deploy.remote.over_grpc import GrpcTransport

    return GrpcTransport(address, endpoint, options, token)
