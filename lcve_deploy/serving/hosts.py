"""Host names and addresses: whether they are this machine's own."""

from __future__ import annotations

import functools
import ipaddress
import socket
from urllib.parse import unquote

__all__ = ["is_local_host", "is_loopback", "peer_host"]


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a host is ``localhost`` or a loopback address. Other names are not resolved.

    Args:
        host: name or address; an IPv6 address with or without brackets.
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_local_host(host: str) -> bool:
    """Return whether a server with this host listens on loopback addresses alone; a name is resolved.

    Args:
        host: name or address to listen on; an empty one stands for all addresses of this machine.
    """
    if is_loopback(host):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):  # listening fails, too, and says why
        return False
    return bool(found) and all(is_loopback(str(address[0])) for *_, address in found)


def peer_host(peer: str) -> str:
    """Return the address in gRPC's name of a peer, such as ``ipv4:127.0.0.1:40000``; others are returned as they are.

    Args:
        peer: name of the peer; a Unix socket is one of this machine.
    """
    kind, _, address = unquote(peer).partition(":")
    if kind == "unix":
        return "localhost"
    return address.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer
