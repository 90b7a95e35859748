"""File descriptors of the process: enough for all connections that the server accepts, checked when it starts."""

from __future__ import annotations

import os
from typing import Final

from lcve_deploy.errors import RequestError
from lcve_deploy.serving.settings import ServerSettings

__all__ = ["METRICS_CONNECTIONS", "reserve_descriptors"]

METRICS_CONNECTIONS: Final = 32
"""Maximum connections of the metrics port, which no other port can use up."""
_OWN: Final = 96
"""Descriptors for files, libraries, listening sockets, and connections that are being closed."""
_SHARED_MEMORY: Final = 256


def reserve_descriptors(settings: ServerSettings) -> None:
    """Raise the soft limit of the process on file descriptors to what the server needs.

    Without a descriptor, connections of all ports, and files of models, could not be opened.

    Raises:
        RequestError: the hard limit is lower.
    """
    if os.name != "posix":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _needed(settings)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise RequestError(
            f"the server needs {needed} file descriptors for its connections, but the system allows {hard}",
            hint="lower --max-connections, or raise the limit (ulimit -n)",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _needed(settings: ServerSettings) -> int:
    ports = [port is not None for port in (settings.http_port, settings.grpc_port)].count(True)
    metrics = METRICS_CONNECTIONS if settings.metrics_port is not None else 0
    memory = _SHARED_MEMORY if settings.limits.shared_memory else 0
    return ports * settings.limits.connections + metrics + memory + _OWN
