"""The header of sealed data: what it is, to whom and for which model it was sealed. It stands in the clear.

It is JSON in one form only, so that there is one sequence of bytes for one content. Sealing binds those bytes: data
whose header was changed cannot be opened.

Source: format ``lcve-seal-1``, section "Header".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from lcve_deploy.clips import Binding, Layout, Views
from lcve_deploy.errors import SealingError
from lcve_deploy.files.reading import parse_json
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.sealing.suites import Suite

__all__ = ["FORMAT", "MAX_CLASSES", "MAX_CLIPS", "MAX_HEADER_BYTES", "Header", "Kind"]

FORMAT: Final = "lcve-seal-1"
MAX_HEADER_BYTES: Final = 4096
MAX_CLIPS: Final = 2**16
"""Maximum number of clips in sealed data."""
MAX_CLASSES: Final = 2**20
"""Maximum number of logits of a clip."""

_MAX_TIME: Final = 2**53
_MAX_NAME: Final = 256
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_SCHEME: Final = re.compile(r"[a-z0-9.-]{1,32}")
_BINDING: Final = ("scheme", "key_id", "salt", "geometry", "layout")
_COMMON: Final = ("format", "kind", "suite", "recipient", *_BINDING)
_NOT_A_HEADER: Final = "the header of the sealed data is invalid"


class Kind(StrEnum):
    """What is sealed. Data of one kind is never opened as another."""

    CLIP = "clip"
    """Clips at rest."""
    REQUEST = "request"
    """Clips on the way to a server, with a public key for the answer."""
    ANSWER = "answer"
    """Logits on the way back."""

    @property
    def number(self) -> int:
        """The byte that stands for it in ``info``."""
        return list(Kind).index(self) + 1


_OF_KIND: Final = {
    Kind.CLIP: ("views",),
    Kind.REQUEST: ("id", "model", "version", "clips", "time"),
    Kind.ANSWER: ("id", "model", "version", "clips", "classes"),
}
_LIMITS: Final = {"clips": (1, MAX_CLIPS), "classes": (1, MAX_CLASSES), "time": (0, _MAX_TIME)}


@dataclass(frozen=True, kw_only=True)
class Header:
    """Content of a header; all of it is public.

    Args:
        kind: what is sealed.
        suite: how.
        recipient: fingerprint of the public key that it is sealed to, 64 hex digits.
        binding: what the clips were encrypted for.
        views: of a clip: how the stack samples the video.
        id: of a request and its answer: 32 hex digits, new for every request.
        model: of a request and its answer: name at the server.
        version: of a request: asked for, empty for any; of an answer: that answered.
        clips: of a request and its answer: how many.
        classes: of an answer: logits of a clip.
        time: of a request: when it was sealed, milliseconds since 1970-01-01 UTC.
    """

    kind: Kind
    suite: Suite
    recipient: str
    binding: Binding
    views: Views = field(default_factory=Views)
    id: str = ""
    model: str = ""
    version: str = ""
    clips: int = 0
    classes: int = 0
    time: int = 0

    def to_bytes(self) -> bytes:
        """The one form: JSON in ASCII, sorted by name, without spaces."""
        fields: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind.value,
            "suite": self.suite.value,
            "recipient": self.recipient,
            **{name: str(getattr(self.binding, name)) for name in _BINDING},
            **{name: getattr(self, name) for name in _OF_KIND[self.kind]},
        }
        if self.kind is Kind.CLIP:
            fields["views"] = str(self.views)
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a header.

        Raises:
            SealingError: not a header of this format, or not in its one form.
        """
        try:
            header = cls._of(parse_json(data))
        except (ValueError, KeyError, TypeError) as error:
            raise SealingError(f"{_NOT_A_HEADER}: {str(error)[:300]}") from None
        if header.to_bytes() != data:
            raise SealingError(f"{_NOT_A_HEADER}: it is not in the one form that it may have")
        return header

    @classmethod
    def _of(cls, fields: Any) -> Self:
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"expected the format {FORMAT}")
        kind = Kind(_text(fields, "kind"))
        if set(fields) != {*_COMMON, *_OF_KIND[kind]}:
            raise ValueError(f"expected the fields {', '.join((*_COMMON, *_OF_KIND[kind]))}")
        given: dict[str, Any] = {name: _read(fields, name) for name in _OF_KIND[kind]}
        return cls(
            kind=kind,
            suite=Suite(_text(fields, "suite")),
            recipient=_matching(fields, "recipient", _HEX),
            binding=Binding(
                scheme=_matching(fields, "scheme", _SCHEME),
                key_id=_text(fields, "key_id"),
                salt=_text(fields, "salt"),
                geometry=ClipGeometry.parse(_text(fields, "geometry")),
                layout=Layout(_text(fields, "layout")),
            ),
            **given,
        )


def _read(fields: dict[str, Any], name: str) -> Any:
    """A field of a kind, checked."""
    if name in _LIMITS:
        low, high = _LIMITS[name]
        value = fields[name]
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name}: expected {low} to {high}")
        return value
    if name == "views":
        return Views.parse(_text(fields, name))
    return _matching(fields, name, _ID) if name == "id" else _text(fields, name)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or len(value) > _MAX_NAME:
        raise ValueError(f"{name}: expected text of at most {_MAX_NAME} characters")
    return value


def _matching(fields: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = _text(fields, name)
    if not pattern.fullmatch(value):
        raise ValueError(f"{name}: expected text that matches {pattern.pattern}")
    return value
