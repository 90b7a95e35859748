"""Answer web pages: refuse those of other origins, and send the headers that pages of allowed origins need.

Source: Fetch Standard, CORS protocol: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from typing import Any, Final

from lcve_deploy.errors import ForbiddenError
from lcve_deploy.serving.http.messages import LENGTH_HEADER
from lcve_deploy.serving.http.responses import error_response
from lcve_deploy.serving.state import Exchange, ServerState

__all__ = ["web_page_middleware"]

_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": f"authorization, content-type, content-encoding, {LENGTH_HEADER.lower()}",
    "Access-Control-Max-Age": "600",
}
_EXPOSED: Final = f"{LENGTH_HEADER}, Retry-After, WWW-Authenticate"
_MAX_SHOWN: Final = 100
_PRIVATE: Final = "Access-Control-{}-Private-Network"


def web_page_middleware(state: ServerState) -> Any:
    """Return an aiohttp middleware that checks where a request comes from, before anything else.

    Args:
        state: state of the server, with what it accepts.
    """
    from aiohttp import web

    async def answer(request: Any, handler: Any) -> Any:
        origin = request.headers.get("Origin")
        try:
            state.web.require(
                origin=origin,
                fetch_site=request.headers.get("Sec-Fetch-Site"),
                hosts=request.headers.getall("Host", []),
            )
        except ForbiddenError as error:
            state.finish(Exchange("http", request.path[:_MAX_SHOWN], request.remote or ""), error)
            return error_response(error)
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if origin is not None and is_preflight:
            response = web.Response(status=204, headers=_PREFLIGHT)
            if _PRIVATE.format("Request") in request.headers:
                response.headers[_PRIVATE.format("Allow")] = "true"
        else:
            response = await handler(request)
        if state.web.origins:
            response.headers.add("Vary", "Origin")
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    return web.middleware(answer)
