"""Track the endpoints of one model and choose the next one to call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from lcve_deploy.clips import Binding
from lcve_deploy.errors import DeadlineError, LcveError, RateError, SessionError, UnavailableError
from lcve_deploy.remote.address import Address
from lcve_deploy.remote.contract import AgreedOutput, RemoteModel, check_model
from lcve_deploy.remote.faults import shown
from lcve_deploy.remote.limits import MAX_LOGITS
from lcve_deploy.remote.sealed import require_offer
from lcve_deploy.remote.transport import LogitsReply, Request, Transport, Values, countdown

__all__ = ["Endpoint", "Endpoints"]

_MAX_BYTES: Final = 2**28
"""Maximum bytes of one request if the server states no batch limit; gRPC itself allows 2 GiB."""


class Endpoint:
    """One server. Threads may share it.

    Args:
        name: ``host:port``.
        address: address of the model.
        binding: binding of the clips.
        transport: connection to the server.
        output: expected output, shared by all endpoints of a session.
        sealed: whether the transport seals its requests.
        pad: the bytes of every packed clip are padded to a multiple of this number.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        binding: Binding,
        transport: Transport,
        *,
        output: AgreedOutput | None = None,
        sealed: bool = False,
        pad: int = 1,
    ) -> None:
        self.name, self._sealed, self._pad = name, sealed, pad
        self._address, self._binding, self._transport = address, binding, transport
        self._output = AgreedOutput(None) if output is None else output
        self._model: RemoteModel | None = None

    def model(self, seconds: float) -> RemoteModel:
        """Return the server's model, fetched and checked on first contact and again after a failure.

        Raises:
            MismatchError: the model is not for these clips.
            LcveError: the server could not be reached or reported an error.
        """
        model = self._model
        if model is None:
            metadata, config = self._transport.describe(seconds)
            require_offer(config, self.name, sealed=self._sealed)
            model = check_model(
                metadata,
                config,
                self._binding,
                name=self._address.model,
                endpoint=self.name,
                output=self._output.expected,
            )
            self._output.require(model)
            self._model = model
        return model

    def run(self, values: Values, seconds: float, *, first_contact: float) -> LogitsReply:
        """Run the first clips, up to the server's maximum batch.

        Args:
            values: uint8 ``[clips, ...]`` or records ``[clips]``, at least one.
            seconds: deadline of the whole call.
            first_contact: maximum seconds for the first contact; a slower server counts as unavailable.

        Raises:
            MismatchError: the model is not for these clips; no clip has been sent.
            SessionError: the response is not the logits of these clips.
            LcveError: the server could not be reached or reported an error.
        """
        left = countdown(seconds)
        model = self._contact(min(seconds, first_contact), patient=first_contact >= seconds)
        part = values[: _max_clips(model, values[0].nbytes)]
        request = Request.of(part, self._binding, pad=self._pad)
        answer = self._transport.infer(request, output=model.output, seconds=left())
        self._check_origin(answer, model, left)
        return answer

    def forget(self) -> None:
        """Forget what is known of the server. Called after a failure: the server may have been replaced."""
        self._model = None
        self._transport.forget()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _contact(self, seconds: float, *, patient: bool) -> RemoteModel:
        try:
            return self.model(seconds)
        except DeadlineError as error:
            if patient:
                raise
            raise UnavailableError(str(error), hint=error.hint) from None

    def _check_origin(self, answer: LogitsReply, model: RemoteModel, left: Callable[[], float]) -> None:
        """Check which model and version made the logits. If the version is new, check the model again first."""
        pinned = self._address.version
        if answer.model == model.name and answer.version in ((pinned,) if pinned else ("", *model.versions)):
            return
        self._model = None
        known = self.model(left())
        if pinned or answer.model != known.name or answer.version not in known.versions:
            raise SessionError(
                f"{self.name} answered with {answer.model[:80]!r}, version {answer.version[:80]!r}; expected "
                f"{model.name!r}, version {pinned or shown(' or '.join(known.versions))}"
            )


def _max_clips(model: RemoteModel, clip_bytes: int) -> int:
    """Return the maximum clips of one request: the server's, and those whose clips and logits are small enough."""
    stated = model.max_batch or max(1, _MAX_BYTES // clip_bytes)
    return min(stated, max(1, MAX_LOGITS // model.output.values))


class Endpoints:
    """All endpoints in order of preference. Threads may share them.

    Args:
        members: the endpoints, at least one.
        rest: seconds that an endpoint is skipped after a failure.
        clock: monotonic time in seconds.
    """

    def __init__(
        self, members: Sequence[Endpoint], *, rest: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.members, self._rest, self._clock = tuple(members), rest, clock
        self._lock, self._until = Lock(), dict.fromkeys(self.members, 0.0)

    def choose(self) -> Endpoint:
        """Return the first endpoint that is not skipped, or else the one that is available again first."""
        with self._lock:
            now = self._clock()
            return min(self.members, key=lambda member: max(self._until[member] - now, 0.0))

    def failed(self, endpoint: Endpoint, error: LcveError) -> None:
        """Skip the endpoint for a while. Unless it is merely rate-limiting, forget what is known of it."""
        with self._lock:
            self._until[endpoint] = self._clock() + self._rest
        if not isinstance(error, RateError):
            endpoint.forget()

    def answered(self, endpoint: Endpoint) -> None:
        """Mark the endpoint as healthy."""
        with self._lock:
            self._until[endpoint] = 0.0
