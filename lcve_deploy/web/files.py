"""The files of the page, and the headers that keep it to itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["HEADERS", "page_files"]

_ROOT: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types lcve"
)

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=(), serial=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""Headers of every response. The page loads nothing from elsewhere, sends nothing to elsewhere, and runs no text."""


def page_files() -> dict[str, tuple[Path, str]]:
    """Return path and media type of each file, by the path of its address; ``/`` is the page itself."""
    files = {
        f"/{path.relative_to(_ROOT)}": (path, _TYPES[path.suffix])
        for folder in (_ROOT, *(child for child in _ROOT.iterdir() if child.is_dir()))
        for path in sorted(folder.glob("**/*"))
        if path.suffix in _TYPES
    }
    return {"/": files["/index.html"], **files}
