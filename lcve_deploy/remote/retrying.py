"""Retry transient failures within one deadline, on other endpoints first."""

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
    """Call endpoints until one answers, and return its answer.

    The call must be safe to repeat, as inference is: logits depend on the clip alone.

    Args:
        ask: calls one endpoint, given the remaining seconds.
        endpoints: endpoints of the model.
        options: deadline, retries and pauses.
        pause: sleeps for the given seconds.
        clock: monotonic time in seconds.

    Raises:
        UnavailableError: the last attempt failed, and no retries are left.
        DeadlineError: the deadline has passed, or would during the next pause.
        LcveError: any other failure; it is not retried, as it would recur.
    """
    end = clock() + options.deadline
    tried: Counter[Endpoint] = Counter()
    asked_to_wait: dict[Endpoint, float] = {}
    while True:
        endpoint = endpoints.choose()
        tried[endpoint] += 1
        try:
            answer = ask(endpoint, max(end - clock(), _MIN_SECONDS))
        except (UnavailableError, DeadlineError) as error:
            endpoints.failed(endpoint, error)
            if isinstance(error, DeadlineError) or tried.total() > options.retries:
                raise
            asked_to_wait[endpoint] = clock() + _stated_pause(error, options)
            following = endpoints.choose()
            length = max(_pause_before(tried[following], options), asked_to_wait.get(following, 0.0) - clock())
            if clock() + length >= end:
                raise DeadlineError(
                    f"no answer in {options.deadline:g} s; the last attempt: {error}", hint=error.hint
                ) from None
            if length:
                pause(length)
        else:
            endpoints.answered(endpoint)
            return answer


def _stated_pause(error: UnavailableError, options: RemoteOptions) -> float:
    """Return the seconds that a server asks to wait, bounded by the longest pause; 0 if it states none.

    Jitter only lengthens them: sooner would be refused again.
    """
    stated = (error.retry_after or 0.0) * random.uniform(1, 1 + _MIN_JITTER)  # noqa: S311 (no secret)
    return float(min(stated, options.max_pause))


def _pause_before(tries: int, options: RemoteOptions) -> float:
    """Return the seconds to wait after so many attempts on an endpoint; jitter keeps clients from retrying in step."""
    if not tries:
        return 0.0
    longest: float = min(options.max_pause, options.pause * 2.0 ** min(tries - 1, 60))
    return longest * random.uniform(_MIN_JITTER, 1)  # noqa: S311 (no secret)
