"""Addresses of a model at one or several servers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from lcve_deploy.errors import RequestError

__all__ = ["Address", "Scheme", "is_address", "is_local"]

_ADDRESS: Final = re.compile(
    r"(?P<scheme>grpcs?|https?)://(?P<hosts>[^/?#@\s]+)/(?P<model>[^/?#@\s]+)(?:/(?P<version>[1-9]\d{0,17}))?/?",
    re.ASCII,
)
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.ASCII)
_MAX_PORT: Final = 2**16 - 1
_LOOPBACK: Final = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]", re.ASCII)
_FORM: Final = "write grpc://host:port/model, grpc://one:8001,two:8001/model or https://host:port/model/version"


class Scheme(StrEnum):
    """How a server is spoken to."""

    GRPC = "grpc"
    GRPCS = "grpcs"
    HTTP = "http"
    HTTPS = "https"

    @property
    def encrypted(self) -> bool:
        """Whether it is TLS."""
        return self in (Scheme.GRPCS, Scheme.HTTPS)

    @property
    def port(self) -> int:
        """The port where none is named: Triton's."""
        return 8001 if self in (Scheme.GRPC, Scheme.GRPCS) else 8000


def is_address(text: str) -> bool:
    """Whether a text names a server, not a folder."""
    return text.startswith(tuple(f"{scheme}://" for scheme in Scheme))


@dataclass(frozen=True, kw_only=True)
class Address:
    """``scheme://host:port[,host:port...]/model[/version]``.

    Args:
        scheme: of all endpoints.
        endpoints: ``host:port`` each; the same model is at all of them.
        model: its name.
        version: a number; empty for what the server chooses.
    """

    scheme: Scheme
    endpoints: tuple[str, ...]
    model: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            RequestError: not an address.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise RequestError(f"not the address of a model at a server: {text!r}", hint=_FORM)
        scheme = Scheme(match["scheme"])
        endpoints = tuple(dict.fromkeys(_endpoint(host, scheme) for host in match["hosts"].split(",")))
        return cls(scheme=scheme, endpoints=endpoints, model=match["model"], version=match["version"] or "")

    def __str__(self) -> str:
        return "/".join(filter(None, (f"{self.scheme}://{','.join(self.endpoints)}", self.model, self.version)))


def is_local(endpoint: str) -> bool:
    """Whether ``host:port`` is this machine."""
    return _LOOPBACK.fullmatch(endpoint.rpartition(":")[0]) is not None


def _endpoint(text: str, scheme: Scheme) -> str:
    match = _HOST.fullmatch(text)
    port = int(match["port"] or scheme.port) if match else 0
    if match is None or not 1 <= port <= _MAX_PORT:
        raise RequestError(f"not a host and its port: {text!r}", hint=_FORM)
    return f"{match['host']}:{port}"
