"""Asking again what may pass, elsewhere first, within one deadline."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

from lcve_deploy.errors import DeadlineError, UnavailableError
from lcve_deploy.remote.endpoints import Endpoint, Endpoints
from lcve_deploy.remote.options import RemoteOptions

__all__ = ["persist"]

_Answer = TypeVar("_Answer")

_MIN_JITTER: Final = 0.5
_MIN_SECONDS: Final = 0.001


def persist(
    ask: Callable[[Endpoint, float], _Answer],
    endpoints: Endpoints,
    options: RemoteOptions,
    *,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> _Answer:
    """The first answer of any endpoint.

    What is asked must be safe to ask twice, as inference is: logits depend on the clip alone.

    Args:
        ask: one endpoint, with the seconds that are left.
        endpoints: of the model.
        options: deadline, retries and pauses.
        pause: waits.
        clock: seconds.

    Raises:
        UnavailableError: of the last try; all retries are used up.
        DeadlineError: the time is over, or would be after the next pause.
        LcveError: whatever else was answered; it would be answered again.
    """
    end = clock() + options.deadline
    tried: Counter[Endpoint] = Counter()
    while True:
        endpoint = endpoints.choose()
        tried[endpoint] += 1
        try:
            answer = ask(endpoint, max(end - clock(), _MIN_SECONDS))
        except (UnavailableError, DeadlineError) as error:
            endpoints.failed(endpoint, error)
            if isinstance(error, DeadlineError) or tried.total() > options.retries:
                raise
            length = _pause_before(tried[endpoints.choose()], options)
            if clock() + length >= end:
                raise DeadlineError(
                    f"no answer in {options.deadline:g} s; the last try: {error}", hint=error.hint
                ) from None
            if length:
                pause(length)
        else:
            endpoints.answered(endpoint)
            return answer


def _pause_before(tries: int, options: RemoteOptions) -> float:
    """Seconds before an endpoint that was tried so often is tried again; jitter keeps clients from acting as one."""
    if not tries:
        return 0.0
    longest: float = min(options.longest_pause, options.pause * 2.0 ** min(tries - 1, 60))
    return longest * random.uniform(_MIN_JITTER, 1)  # noqa: S311 (no secret)
