"""Bearer tokens: read from a file or the environment, sent to the server, never shown."""

from __future__ import annotations

import os
import re
from typing import Final, NoReturn, Self, final

from lcve_deploy.errors import DeniedError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.remote.options import TOKEN_VARIABLE, RemoteOptions

__all__ = ["PlainTokenWarning", "Token"]

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_MAX_BYTES: Final = 8192


class PlainTokenWarning(UserWarning):
    """A token is sent over a network without TLS, where others can read and use it."""


@final
class Token:
    """A bearer token, or none.

    Args:
        text: token in the syntax of RFC 6750, section 2.1; empty for none.
        source: where the token comes from, for the error.

    Raises:
        DeniedError: the text is not a token. The error does not show it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str = "", *, source: str = "the token") -> None:
        if text and (len(text) > _MAX_BYTES or not _TOKEN.fullmatch(text)):
            raise DeniedError(
                f"expected one token of A-Z, a-z, 0-9, ., _, ~, +, / and -, received other text: {source}"
            )
        self._text = text

    @classmethod
    def read(cls, options: RemoteOptions) -> Self:
        """Read the token from the token file if given, or else from ``LCVE_TOKEN``; there may be none.

        Raises:
            DeniedError: the file or variable contains no valid token.
            OSError: the file cannot be read.
        """
        path = options.token_file
        if path is None:
            return cls(os.environ.get(TOKEN_VARIABLE, "").strip(), source=TOKEN_VARIABLE)
        data = read_bounded(path, "a file with a token", DeniedError, max_bytes=_MAX_BYTES)
        text = data.decode("ascii", errors="replace").strip()
        if not text:
            raise DeniedError(f"expected a token, received an empty file: {path}")
        return cls(text, source=str(path))

    def headers(self) -> dict[str, str]:
        """Return the ``authorization`` header, or none without a token."""
        return {"authorization": f"Bearer {self._text}"} if self._text else {}

    def hide(self, text: str) -> str:
        """Replace the token in a server's message."""
        return text.replace(self._text, "[token]") if self._text else text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return f"Token({'hidden' if self._text else ''})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a token cannot be pickled")
