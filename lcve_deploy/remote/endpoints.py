"""The endpoints of one model: what is known of each, and which is asked next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

import numpy as np

from lcve_deploy.clips import Binding
from lcve_deploy.errors import DeadlineError, LcveError, RateError, SessionError, UnavailableError
from lcve_deploy.remote.address import Address
from lcve_deploy.remote.contract import RemoteModel, check_model
from lcve_deploy.remote.transport import Logits, LogitsReply, Request, Transport, Values, countdown

__all__ = ["Endpoint", "Endpoints"]

_MAX_BYTES: Final = 2**28
"""Of one request, where the server says no limit; gRPC itself takes 2 GiB."""


class Endpoint:
    """One server. Threads may share it.

    Args:
        name: ``host:port``.
        address: of the model.
        binding: of the clips.
        transport: the way to it.
        classes: logits of a clip that are expected; None for as many as the server says.
    """

    def __init__(
        self, name: str, address: Address, binding: Binding, transport: Transport, *, classes: int | None = None
    ) -> None:
        self.name = name
        self._address, self._binding, self._transport, self._classes = address, binding, transport, classes
        self._model: RemoteModel | None = None

    def model(self, seconds: float) -> RemoteModel:
        """What is there: asked and checked on first contact, and again after a failure.

        Raises:
            MismatchError: not a model for these clips.
            LcveError: whatever the server answered instead.
        """
        model = self._model
        if model is None:
            metadata, config = self._transport.describe(seconds)
            model = check_model(
                metadata,
                config,
                self._binding,
                name=self._address.model,
                endpoint=self.name,
                classes=self._classes,
            )
            self._model = model
        return model

    def run(self, values: Values, seconds: float, *, first_contact: float) -> Logits:
        """Logits of the first clips, as many as the server takes at once.

        Args:
            values: uint8 ``[clips, ...]``, at least one.
            seconds: for all of it.
            first_contact: seconds for the first contact, at most; a server that needs more counts as away.

        Raises:
            MismatchError: not a model for these clips; none has been sent.
            LcveError: whatever the server answered instead.
            SessionError: an answer that is not the logits of these clips.
        """
        left = countdown(seconds)
        model = self._contact(min(seconds, first_contact), patient=first_contact >= seconds)
        part = values[: model.largest_batch or max(1, _MAX_BYTES // values[0].nbytes)]
        request = Request(values=np.ascontiguousarray(part), binding=self._binding)
        answer = self._transport.infer(request, classes=model.classes, seconds=left())
        self._check_origin(answer, model, left)
        return answer.logits

    def forget(self) -> None:
        """After a failure: the server may be another one next time."""
        self._model = None
        self._transport.forget()

    def close(self) -> None:
        """End the connections."""
        self._transport.close()

    def _contact(self, seconds: float, *, patient: bool) -> RemoteModel:
        try:
            return self.model(seconds)
        except DeadlineError as error:
            if patient:
                raise
            raise UnavailableError(str(error), hint=error.hint) from None

    def _check_origin(self, answer: LogitsReply, model: RemoteModel, left: Callable[[], float]) -> None:
        """An answer of a version that appeared since is believed only once the model has been checked again."""
        pinned = self._address.version
        if answer.model == model.name and answer.version in ((pinned,) if pinned else ("", *model.versions)):
            return
        self._model = None
        known = self.model(left())
        if pinned or answer.model != known.name or answer.version not in known.versions:
            raise SessionError(
                f"{self.name} answered with {answer.model[:80]!r}, version {answer.version[:80]!r}; asked was "
                f"{model.name!r}, version {pinned or ' or '.join(known.versions)}"
            )


class Endpoints:
    """All endpoints, in the order in which they are preferred. Threads may share them.

    Args:
        members: at least one.
        rest: seconds that one is passed over after a failure.
        clock: seconds.
    """

    def __init__(
        self, members: Sequence[Endpoint], *, rest: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.members, self._rest, self._clock = tuple(members), rest, clock
        self._lock, self._until = Lock(), dict.fromkeys(self.members, 0.0)

    def choose(self) -> Endpoint:
        """The first that does not rest, else the one whose rest ends first."""
        with self._lock:
            now = self._clock()
            return min(self.members, key=lambda member: max(self._until[member] - now, 0.0))

    def failed(self, endpoint: Endpoint, error: LcveError) -> None:
        """Pass it over for a while. One that is merely full is still what it was."""
        with self._lock:
            self._until[endpoint] = self._clock() + self._rest
        if not isinstance(error, RateError):
            endpoint.forget()

    def answered(self, endpoint: Endpoint) -> None:
        """It is well."""
        with self._lock:
            self._until[endpoint] = 0.0
