"""The one place that takes any exception: whatever opening a model version raises is that version's failure.

Readers and runtimes parse what others wrote. They raise errors of this package for what they know to be wrong. What
they do not know (an overflow in a library, a recursion that is too deep, memory that is not there) must not end a
server that has other models, nor give the operator a traceback in place of a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lcve_deploy.errors import LcveError, SessionError

__all__ = ["version_boundary"]

_SHOWN_CHARACTERS = 300


@contextmanager
def version_boundary(folder: Path) -> Iterator[None]:
    """Turn any exception of the block into an error of this package that names the server folder.

    Interrupts and exits are none of the version's, and pass.

    Raises:
        LcveError, OSError: as the block raised them.
        SessionError: the block raised anything else.
    """
    try:
        yield
    except (LcveError, OSError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:_SHOWN_CHARACTERS]
        raise SessionError(
            f"{folder} cannot be opened: {type(error).__name__}{': ' if said else ''}{said}",
            hint="check the folder with: lcve verify, or export the artifact again",
        ) from error
