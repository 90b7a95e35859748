"""Settings of ``lcve web``."""

from __future__ import annotations

from dataclasses import dataclass

from lcve_deploy.serving.hosts import is_local_host
from lcve_deploy.serving.settings import WebAccess
from lcve_deploy.serving.web import WebPolicy

__all__ = ["PageSettings"]


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """Where to listen, and what the page may use without asking the user for a file.

    Args:
        host: address to listen on.
        port: port to listen on; 0 lets the system choose.
        hosts: accepted names of this machine, in addition to loopback ones.
        client: content of ``client.json``; None if the user must choose the file.

    Raises:
        ValueError: a host name is invalid.
    """

    host: str = "127.0.0.1"
    port: int = 8010
    hosts: tuple[str, ...] = ()
    client: bytes | None = None

    def __post_init__(self) -> None:
        WebAccess(hosts=self.hosts)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return is_local_host(self.host)

    @property
    def policy(self) -> WebPolicy:
        """The host names that requests may name. Any other may have been made to resolve to this machine."""
        named = () if self.host in ("", "0.0.0.0", "::") else (self.host.lower(),)  # noqa: S104
        return WebPolicy(hosts=frozenset((*self.hosts, *named)))
