"""``RemoteSession``: a model at servers, which answers encrypted clips as a session on this machine does."""

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
from lcve_deploy.remote.address import Address, Scheme, is_local
from lcve_deploy.remote.contract import RemoteModel
from lcve_deploy.remote.endpoints import Endpoint, Endpoints
from lcve_deploy.remote.options import RemoteOptions
from lcve_deploy.remote.retrying import persist
from lcve_deploy.remote.token import PlainTokenWarning, Token
from lcve_deploy.remote.transport import Logits, Transport, Values

__all__ = ["RemoteSession"]

_Answer = TypeVar("_Answer")

_DEFAULTS: Final = RemoteOptions()
_FIRST_CONTACT: Final = 0.5
"""Share of the time that the first contact with one of several endpoints gets, so that there is some for another."""


class RemoteSession:
    """A model at one or several servers that speak the Open Inference Protocol. Threads may share it.

    Nothing is sent before the first clip, or before ``connect``. A context manager: ``close`` at its end.

    Args:
        address: such as ``grpc://one:8001,two:8001/model``, ``grpcs://``, ``http://``, ``https://``; a version may
            follow the model. The first endpoint is preferred.
        binding: of the clips that will be sent; those of any other are refused before anything is sent.
        options: deadline, retries, token, TLS, shared memory.
        classes: logits of a clip that are expected, as ``client.json`` says; by default as many as the server says.

    Raises:
        RequestError: not an address, or options that it cannot have.
        DeniedError: a token or certificates that cannot be used.
        MissingDependencyError: tritonclient is not installed.
    """

    def __init__(
        self,
        address: str | Address,
        binding: Binding,
        options: RemoteOptions = _DEFAULTS,
        *,
        classes: int | None = None,
    ) -> None:
        self._address = address if isinstance(address, Address) else Address.parse(address)
        self._binding, self._options, self._closed = binding, options, Event()
        _check_options(self._address, options)
        token = Token.read(options)
        _warn_of_plain(self._address, token)
        members = [
            Endpoint(name, self._address, binding, _transport(self._address, name, options, token), classes=classes)
            for name in self._address.endpoints
        ]
        self._endpoints = Endpoints(members, rest=options.rest)

    @property
    def address(self) -> Address:
        """Of the model."""
        return self._address

    @property
    def binding(self) -> Binding:
        """Of the clips that it takes."""
        return self._binding

    def connect(self) -> RemoteModel:
        """Make sure that there is a server, and that its model is for these clips.

        Raises:
            MismatchError: it is for others.
            LcveError: as of ``run``.
        """
        return self._persist(lambda endpoint, left: endpoint.model(left))

    def run(self, clip: EncryptedClip) -> Logits:
        """Logits of encrypted clips, in the artifact's own label order.

        More clips than the server takes at once go in several requests, each with a deadline of its own.

        Args:
            clip: uint8 values ``[batch, N, L]`` or ``[batch, T, H, W, C]``, at least one.

        Returns:
            float32 ``[batch, classes]``. Whether they are finite is for the reader to check.

        Raises:
            MismatchError: the clip, or the server's model, is for another artifact; no clip has been sent.
            UnavailableError: no endpoint answered, all retries included.
            DeadlineError: no answer in time.
            DeniedError: the token or certificate is not accepted, or the server's is not.
            RequestError: the server refuses the request.
            SessionError: the server failed, answered what is not logits of these clips, or this session is closed.
            ValueError: not a batch of uint8 clips.
        """
        values = self._checked(clip)
        parts: list[Logits] = []
        while len(values):
            parts.append(self._persist(partial(self._ask, values)))
            values = values[len(parts[-1]) :]
        return np.concatenate(parts)

    def map(self, clips: Iterable[EncryptedClip], *, in_flight: int = 4) -> Iterator[Logits]:
        """Logits of each of many clips, in their order, with several requests under way at once.

        Args:
            clips: taken one by one, never more than ``in_flight`` ahead of the logits.
            in_flight: requests at once; at least 1.

        Raises:
            LcveError: as of ``run``; requests that are under way are waited for, and no more are made.
        """
        return run_each(self, clips, in_flight=in_flight)

    def close(self) -> None:
        """End all connections and remove shared memory, here and at the servers. Requests under way may fail."""
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
        if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.ndim != len(shape) + 1:
            raise ValueError(f"expected a NumPy array of uint8 clips [batch, {str(list(shape))[1:]}")
        if not len(values):
            raise ValueError("expected at least one clip, received none")
        return values

    def _ask(self, values: Values, endpoint: Endpoint, left: float) -> Logits:
        alone = len(self._endpoints.members) == 1
        return endpoint.run(values, left, first_contact=left if alone else left * _FIRST_CONTACT)

    def _persist(self, ask: Callable[[Endpoint, float], _Answer]) -> _Answer:
        if self._closed.is_set():
            raise SessionError("the session is closed")
        return persist(ask, self._endpoints, self._options, pause=self._closed.wait)


def _check_options(address: Address, options: RemoteOptions) -> None:
    if options.tls_files and not address.scheme.encrypted:
        raise RequestError(
            f"certificates are for TLS, and {address.scheme}:// has none", hint="write grpcs:// or https://"
        )
    local = address.scheme in (Scheme.GRPC, Scheme.GRPCS) and any(map(is_local, address.endpoints))
    if options.shared_memory and not local:
        raise RequestError(
            f"shared memory is for a server on this machine, over gRPC; the address is {address}",
            hint="write grpc://localhost:8001/model, or send clips without shared memory",
        )


def _warn_of_plain(address: Address, token: Token) -> None:
    if token and not address.scheme.encrypted and not all(map(is_local, address.endpoints)):
        warnings.warn(
            f"the token goes to {address} without TLS, and anyone who listens can use it; write grpcs:// or https://",
            PlainTokenWarning,
            stacklevel=3,
        )


def _transport(address: Address, endpoint: str, options: RemoteOptions, token: Token) -> Transport:
    if address.scheme in (Scheme.HTTP, Scheme.HTTPS):
        from lcve_deploy.remote.over_http import HttpTransport

        return HttpTransport(address, endpoint, options, token)
    from lcve_deploy.remote.over_grpc import GrpcTransport

    return GrpcTransport(address, endpoint, options, token)
