"""Requests of web pages: which origins and hosts a server accepts.

A browser lets any page send requests to a server on the same machine, and carries out those that need no preflight. It
also lets a page whose name was made to resolve to a loopback address (DNS rebinding) read the responses. The browser
names the page in the header ``Origin`` and the server's supposed name in ``Host``, which pages cannot change.

Source: Fetch Standard, CORS protocol and ``Origin`` header: https://fetch.spec.whatwg.org/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lcve_deploy.errors import ForbiddenError
from lcve_deploy.serving.hosts import is_loopback
from lcve_deploy.serving.settings import ServerSettings

__all__ = ["WebPolicy"]

_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]]*)(?::\d*)?")
_CROSS_SITE: Final = ("cross-site", "same-site")
"""``Sec-Fetch-Site`` of requests that a page of another origin makes. Images and scripts have no ``Origin``."""
_MAX_SHOWN: Final = 100


@dataclass(frozen=True, kw_only=True)
class WebPolicy:
    """Origins and hosts of one server.

    Args:
        origins: accepted origins, such as ``https://app.example``; requests of other pages are refused.
        hosts: accepted names of the server, in addition to loopback ones; None accepts any name.
    """

    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] | None = None

    @classmethod
    def of(cls, settings: ServerSettings) -> WebPolicy:
        """Return the policy of a server. Hosts are checked on loopback addresses, and where the operator names some."""
        web = settings.web
        own = [settings.host.lower()] if settings.is_local else []
        return cls(origins=frozenset(web.origins), hosts=frozenset((*web.hosts, *own)) if web.hosts or own else None)

    def require(self, *, origin: str | None, fetch_site: str | None = None, hosts: Sequence[str] = ()) -> None:
        """Check the headers of a request.

        Args:
            origin: value of ``Origin``; None for clients that are not web pages.
            fetch_site: value of ``Sec-Fetch-Site``.
            hosts: values of ``Host``; none for clients older than HTTP/1.1, which no browser is.

        Raises:
            ForbiddenError: a page of another origin sent the request, or it names another server.
        """
        if not self.allows(origin) or (origin is None and fetch_site in _CROSS_SITE):
            raise ForbiddenError(
                f"this server does not accept requests of web pages from {(origin or 'another origin')[:_MAX_SHOWN]!r}",
                hint="the operator can allow an origin with lcve serve --allow-origin",
            )
        if len(hosts) > 1 or not all(map(self._is_own, hosts)):
            raise ForbiddenError(
                f"this server does not accept the host name {', '.join(hosts)[:_MAX_SHOWN]!r}",
                hint="use its loopback address; the operator can allow a name with lcve serve --allow-host",
            )

    def allows(self, origin: str | None) -> bool:
        """Return whether an origin is accepted; None is that of clients that are not web pages."""
        return origin is None or origin in self.origins

    def _is_own(self, header: str) -> bool:
        if self.hosts is None:
            return True
        match = _HOST.fullmatch(header)
        host = match["host"].lower() if match else ""
        return is_loopback(host) or host in self.hosts
