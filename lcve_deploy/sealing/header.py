"""Write and parse the header of sealed data, which says what it is, and for which key and model. It is not encrypted.

It is JSON in a single form, so that one content has one sequence of bytes. Sealing binds these bytes: data whose
header was changed cannot be opened.

Source: format ``lcve-seal-1``, section "Header".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from lcve_deploy.clips import Binding, Layout, Scheme, Views
from lcve_deploy.errors import SealingError
from lcve_deploy.files.reading import parse_json
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.sealing.suites import Suite

__all__ = ["FORMAT", "MAX_CLASSES", "MAX_CLIPS", "MAX_HEADER_BYTES", "Header", "Kind"]

FORMAT: Final = "lcve-seal-1"
MAX_HEADER_BYTES: Final = 4096
MAX_CLIPS: Final = 2**16
"""Maximum number of clips in sealed data."""
MAX_CLASSES: Final = 2**27
"""Maximum number of values that a model answers for a clip: logits, features, or all values of all tokens."""

_MAX_TIME: Final = 2**53
_MAX_NAME: Final = 256
_MAX_SIZE: Final = 2**40
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_SCHEME: Final = re.compile(r"[a-z0-9.-]{1,32}")
_BINDING: Final = ("scheme", "key_id", "salt", "geometry", "layout")
_COMMON: Final = ("format", "kind", "suite", "recipient", *_BINDING)
_NOT_A_HEADER: Final = "the header of the sealed data is invalid"


class Kind(StrEnum):
    """Purpose of sealed data. Data of one kind is never opened as another."""

    CLIP = "clip"
    """Clips at rest."""
    REQUEST = "request"
    """Clips for a server, with a public key for the answer."""
    ANSWER = "answer"
    """Logits for the client."""

    @property
    def number(self) -> int:
        """Return the number of the kind in ``info``, one byte."""
        return list(Kind).index(self) + 1


_OF_KIND: Final = {
    Kind.CLIP: ("views",),
    Kind.REQUEST: ("id", "model", "version", "clips", "time"),
    Kind.ANSWER: ("id", "model", "version", "clips", "classes"),
}
_PACKED: Final = ("size",)
"""Further field of clips and requests in the scheme ``lcve-dct-1``, whose clips have no fixed length."""
_LIMITS: Final = {
    "clips": (1, MAX_CLIPS),
    "classes": (1, MAX_CLASSES),
    "time": (0, _MAX_TIME),
    "size": (1, _MAX_SIZE),
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """Content of a header; it is public.

    Args:
        kind: purpose.
        suite: suite of the recipient's key.
        recipient: fingerprint of the public key that the data is sealed to, 64 hex digits.
        binding: artifact that the clips were encrypted for.
        views: clip: temporal and spatial views.
        id: request and answer: 32 hex digits, new for every request.
        model: request and answer: name of the model on the server.
        version: request: requested version, empty for any; answer: version that ran.
        clips: request and answer: number of clips.
        classes: answer: values per clip, in all rows of tokens.
        time: request: time of sealing, milliseconds since 1970-01-01 UTC.
        size: clip and request in the scheme ``lcve-dct-1``: bytes of the packed clips.
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
    size: int = 0

    @property
    def values_size(self) -> int:
        """Return the bytes of the values of all clips, for a clip or request."""
        if self.binding.packed:
            return self.size
        geometry = self.binding.geometry
        clips = self.views.count if self.kind is Kind.CLIP else self.clips
        return clips * geometry.cubes * geometry.values

    def to_bytes(self) -> bytes:
        """Return the header as JSON in ASCII, sorted by name, without spaces."""
        fields: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind.value,
            "suite": self.suite.value,
            "recipient": self.recipient,
            **{name: str(getattr(self.binding, name)) for name in _BINDING},
            **{name: getattr(self, name) for name in _fields(self.kind, self.binding.scheme)},
        }
        if self.kind is Kind.CLIP:
            fields["views"] = str(self.views)
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a header.

        Raises:
            SealingError: the header is invalid, or not in its single form.
        """
        try:
            header = cls._of(parse_json(data))
        except (ValueError, KeyError, TypeError) as error:
            raise SealingError(f"{_NOT_A_HEADER}: {str(error)[:300]}") from None
        if header.to_bytes() != data:
            raise SealingError(f"{_NOT_A_HEADER}: it is not in canonical form")
        return header

    @classmethod
    def _of(cls, fields: Any) -> Self:
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"expected the format {FORMAT}")
        kind = Kind(_text(fields, "kind"))
        own = _fields(kind, fields.get("scheme"))
        if set(fields) != {*_COMMON, *own}:
            raise ValueError(f"expected the fields {', '.join((*_COMMON, *own))}")
        given: dict[str, Any] = {name: _read(fields, name) for name in own}
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


def _fields(kind: Kind, scheme: object) -> tuple[str, ...]:
    """Return the names of the fields that not all headers have."""
    packed = scheme == Scheme.DCT and kind is not Kind.ANSWER
    return (*_OF_KIND[kind], *(_PACKED if packed else ()))


def _read(fields: dict[str, Any], name: str) -> Any:
    """Return a checked field."""
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
