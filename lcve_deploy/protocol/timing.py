"""Name the parameter of an answer by which a server states how long it took."""

from __future__ import annotations

from typing import Final

__all__ = ["SERVER_MICROSECONDS"]

SERVER_MICROSECONDS: Final = "lcve_server_us"
"""Integer: microseconds from the complete request to its answer, in the server. Sealing does not protect it."""
