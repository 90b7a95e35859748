"""The aiohttp application of ``lcve web``: files of the page, and a model that the page asks in the open protocol."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from lcve_deploy.errors import DeadlineError, ForbiddenError, LcveError, RequestError, TooLargeError
from lcve_deploy.libraries.requiring import require
from lcve_deploy.serving.http.messages import LENGTH_HEADER
from lcve_deploy.serving.http.responses import error_response, hide_library_version, json_response
from lcve_deploy.web.files import HEADERS, page_files
from lcve_deploy.web.models import NAME, PageModel
from lcve_deploy.web.requests import MAX_BODY_BYTES, binding_in, clip_in, figures_of, logits_body
from lcve_deploy.web.settings import PageSettings

__all__ = ["page_app"]

_LOG: Final = logging.getLogger(__name__)
_READ_SECONDS: Final = 30.0
_MAX_RUNS: Final = 4
"""Maximum requests to the model at the same time."""

_Handler = Callable[[Any], Awaitable[Any]]


def page_app(settings: PageSettings, model: PageModel) -> Any:
    """Return the application.

    Raises:
        MissingDependencyError: aiohttp is not installed.
    """
    with require("serving the page needs aiohttp", extra="web"):
        from aiohttp import web

    hide_library_version()
    app = web.Application(middlewares=[_guard(web, settings)])
    for address, (path, kind) in page_files().items():
        app.router.add_get(address, _file(web, path.read_bytes(), kind))
    if settings.client is not None:
        app.router.add_get("/client.json", _file(web, settings.client, "application/json"))
    app.router.add_get("/place.json", _place(model, has_client=settings.client is not None))
    runs = asyncio.Semaphore(_MAX_RUNS)
    app.router.add_get(f"/v2/models/{NAME}", _describe(model, "metadata"))
    app.router.add_get(f"/v2/models/{NAME}/config", _describe(model, "config"))
    app.router.add_post(f"/v2/models/{NAME}/infer", _infer(web, model, runs))
    return app


def _guard(web: Any, settings: PageSettings) -> Any:
    """Return a middleware that answers only the page itself, reports errors as JSON, and sets the headers."""
    policy = settings.policy

    async def answer(request: Any, handler: _Handler) -> Any:
        try:
            policy.require(
                origin=_foreign(request),
                fetch_site=None if _is_navigation(request) else request.headers.get("Sec-Fetch-Site"),
                hosts=request.headers.getall("Host", []),
            )
            response = await handler(request)
        except ForbiddenError as error:
            text = str(error)
            response = error_response(ForbiddenError(text, hint="the page may be used only where lcve web serves it"))
        except LcveError as error:
            response = error_response(error)
        except web.HTTPException as error:
            response = json_response({"error": f"{error.reason}: {request.path[:200]}"}, status=error.status)
        except Exception as error:  # last chance to answer
            _LOG.error("answering the page failed", exc_info=error)
            response = error_response(error)
        response.headers.update(HEADERS)
        return response

    return web.middleware(answer)


def _foreign(request: Any) -> str | None:
    """Return the origin of a request if it is not the page itself. The name in ``Host`` is checked separately."""
    origin, host = request.headers.get("Origin"), request.headers.get("Host", "")
    return None if origin in (None, f"http://{host}", f"https://{host}") else origin


def _is_navigation(request: Any) -> bool:
    """Return whether a browser opens the page, as from a link; a frame is refused by the page's own policy."""
    headers = request.headers
    return (request.method, request.path, headers.get("Sec-Fetch-Mode")) == ("GET", "/", "navigate")


def _file(web: Any, data: bytes, kind: str) -> _Handler:
    async def answer(request: Any) -> Any:
        return web.Response(body=data, headers={"Content-Type": kind})

    return answer


def _place(model: PageModel, *, has_client: bool) -> _Handler:
    async def answer(request: Any) -> Any:
        return json_response({"place": model.place, "wire": model.wire, "client": has_client})

    return answer


def _describe(model: PageModel, what: str) -> _Handler:
    async def answer(request: Any) -> Any:
        offer = await asyncio.to_thread(model.offer, binding_in(request.query))
        return json_response(getattr(offer, what)())

    return answer


def _infer(web: Any, model: PageModel, runs: asyncio.Semaphore) -> _Handler:
    async def answer(request: Any) -> Any:
        async with runs:
            body, length = await _read_body(request), request.headers.get(LENGTH_HEADER)
            clip = await asyncio.to_thread(clip_in, body, length)
            started = time.perf_counter()
            run = await asyncio.to_thread(model.run, clip)
            seconds = time.perf_counter() - started
        answer_body, headers = logits_body(run.logits)
        return web.Response(body=answer_body, headers={**headers, **figures_of(run, seconds)})

    return answer


async def _read_body(request: Any) -> memoryview:
    """Return the body of a request.

    Raises:
        TooLargeError: it is larger than ``MAX_BODY_BYTES``.
        DeadlineError: it did not arrive in time.
        RequestError: it is compressed.
    """
    if "Content-Encoding" in request.headers:
        raise RequestError("expected a request without Content-Encoding")
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise TooLargeError(f"expected at most {MAX_BODY_BYTES} bytes, received more")
    except TimeoutError:
        raise DeadlineError(f"the request did not arrive within {_READ_SECONDS:g} s") from None
    return memoryview(body)
