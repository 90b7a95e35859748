"""Name errors on the wire that the status alone does not distinguish."""

from __future__ import annotations

from typing import Final

__all__ = ["ERROR_FIELD", "ERROR_METADATA", "UNKNOWN_KEY"]

ERROR_FIELD: Final = "lcve_error"
"""Field of the JSON of an HTTP error."""
ERROR_METADATA: Final = "lcve-error"
"""Trailing metadata of gRPC."""
UNKNOWN_KEY: Final = "unknown_key"
"""The model has no such key, or the client may not use it; the status is that of an unknown model."""
