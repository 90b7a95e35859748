"""Two network namespaces with one cable between them, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.images.podman import said_by

# Addresses for documentation (RFC 5737): no other network has them.
_SERVER, _CLIENT = "192.0.2.1", "192.0.2.2"


@dataclass(frozen=True, kw_only=True)
class Cable:
    """The namespaces at both ends, as ``--network`` takes them, and the address of the server."""

    server: str
    client: str
    address: str = _SERVER


@contextmanager
def cable() -> Iterator[Cable]:
    """The two namespaces, removed at the end."""
    server, client = f"lcve-server-{os.getpid()}", f"lcve-client-{os.getpid()}"
    with ExitStack() as stack:
        for name in (server, client):
            said_by("ip", "netns", "add", name)
            stack.callback(subprocess.run, ("ip", "netns", "del", name), check=True)
        said_by("ip", "-n", server, "link", "add", "lcve0", "type", "veth", "peer", "name", "lcve0", "netns", client)
        for name, address in ((server, _SERVER), (client, _CLIENT)):
            said_by("ip", "-n", name, "address", "add", f"{address}/30", "dev", "lcve0")
            said_by("ip", "-n", name, "link", "set", "lcve0", "up")
            said_by("ip", "-n", name, "link", "set", "lo", "up")
        yield Cable(server=f"ns:/run/netns/{server}", client=f"ns:/run/netns/{client}")
