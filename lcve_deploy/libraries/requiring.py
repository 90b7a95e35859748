"""The error for an optional package that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lcve_deploy.errors import MissingDependencyError

__all__ = ["require"]


@contextmanager
def require(need: str, *, extra: str) -> Iterator[None]:
    """Import optional packages in a block; if one is missing, the error says what to install.

    Args:
        need: what needs which package, such as "reading video needs PyAV".
        extra: of this package, which brings it.

    Raises:
        MissingDependencyError: an import in the block failed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(need, hint=f"pip install 'lcve-deploy[{extra}]'") from error
