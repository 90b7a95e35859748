"""Limits on what is read of a server's answer. They are applied before anything is parsed: the server is not trusted.

A right answer is small: a description of a model, or four bytes for each logit that was asked for. A parser can make
a hundred bytes of objects out of each byte that it reads, so everything larger is refused unread.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final, Self

__all__ = [
    "BYTES_PER_LOGIT",
    "MAX_CLASSES",
    "MAX_DESCRIPTION_BYTES",
    "MAX_HEAD_BYTES",
    "MAX_LOGITS",
    "MAX_TOKENS",
    "BodyLimits",
    "max_message_bytes",
]

BYTES_PER_LOGIT: Final = 4
"""Bytes of a logit in binary data."""
MAX_DESCRIPTION_BYTES: Final = 2**17
"""Maximum bytes of a model's metadata or configuration."""
MAX_HEAD_BYTES: Final = 2**16
"""Maximum bytes of an answer in addition to its logits: names, shapes, parameters, HTTP headers; or of an error."""
MAX_CLASSES: Final = 2**16
"""Maximum number of classes that a server may state if ``client.json`` is not there to compare with."""
MAX_TOKENS: Final = 2**12
"""Maximum number of tokens, in addition to those of the cubes, that a server may state without ``client.json``."""
MAX_LOGITS: Final = 2**24
"""Maximum number of values that are requested at once, unless one clip has more: 41,000 clips with 400 classes."""

_JSON_BYTES_PER_LOGIT: Final = 32
"""Maximum bytes of a logit in JSON, with separator and white space; a float32 written as a double has 24."""


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """Maximum bytes of an HTTP body.

    Args:
        json: of a body that is JSON as a whole.
        binary: of binary data after a JSON header, without the header.
    """

    json: int
    binary: int

    @classmethod
    def of_description(cls) -> Self:
        """Return the limits of a model's metadata or configuration."""
        return cls(json=MAX_DESCRIPTION_BYTES, binary=0)

    @classmethod
    def of_logits(cls, shape: tuple[int, ...]) -> Self:
        """Return the limits of an output ``[batch, ...]``."""
        count = prod(shape)
        return cls(json=MAX_HEAD_BYTES + _JSON_BYTES_PER_LOGIT * count, binary=BYTES_PER_LOGIT * count)


def max_message_bytes(shape: tuple[int, ...]) -> int:
    """Return the maximum bytes of a gRPC message with an output ``[batch, ...]``."""
    return MAX_HEAD_BYTES + BYTES_PER_LOGIT * prod(shape)
