"""Report an optional package that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lcve_deploy.errors import MissingDependencyError

__all__ = ["require"]


@contextmanager
def require(need: str, *, extra: str) -> Iterator[None]:
    """Wrap imports of optional packages; if one is missing, the error says what to install.

    Args:
        need: message, such as "reading video needs PyAV".
        extra: extra of lcve-deploy that installs the package.

    Raises:
        MissingDependencyError: an import in the block failed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(need, hint=f"pip install 'lcve-deploy[{extra}]'") from error
