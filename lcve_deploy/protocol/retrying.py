"""Where a server says when a client may send a refused request again."""

from __future__ import annotations

from typing import Final

__all__ = ["RETRY_AFTER", "RETRY_PUSHBACK"]

RETRY_AFTER: Final = "Retry-After"
"""HTTP header: whole seconds."""
RETRY_PUSHBACK: Final = "grpc-retry-pushback-ms"
"""Trailing metadata of gRPC: milliseconds. gRPC's own clients with a retry policy wait as long."""
