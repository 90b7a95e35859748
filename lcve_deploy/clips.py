"""Plain and encrypted clips: two types, so that a type checker refuses the wrong one.

``Binding`` is the public label that artifacts and encrypted clips carry: what must agree before
anything runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from lcve_deploy.errors import MismatchError
from lcve_deploy.geometry import ClipGeometry

__all__ = ["SALT_BYTES", "SCHEME", "Binding", "EncryptedClip", "Layout", "PlainClip", "Views"]

SCHEME: Final = "lcve-1"
SALT_BYTES: Final = 16

_HEX: Final = re.compile(r"[0-9a-f]{32}")


class Layout(StrEnum):
    """How the values of an encrypted clip travel."""

    CUBES = "cubes"
    """``[N, L]``: the shuffled cubes as they are; encryption replaces the model's patchify step."""
    VIDEO = "video"
    """``[T, H, W, C]``: put together again as a clip (the paper's step 7)."""

    def shape(self, geometry: ClipGeometry) -> tuple[int, ...]:
        """Shape of one encrypted clip."""
        return (geometry.cubes, geometry.values) if self is Layout.CUBES else geometry.clip_shape


@dataclass(frozen=True, kw_only=True)
class Views:
    """How a stack of clips samples one video: view index = temporal · S + spatial."""

    temporal: int = 1
    spatial: int = 1

    def __post_init__(self) -> None:
        if min(self.temporal, self.spatial) < 1:
            raise ValueError(f"expected at least 1x1 views, received {self}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``TxS``, for example ``5x3``."""
        match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text, re.ASCII)
        if match is None:
            raise ValueError(f"expected views such as 5x3 (temporal x spatial), received {text!r}")
        return cls(temporal=int(match[1]), spatial=int(match[2]))

    @property
    def count(self) -> int:
        """Clips in the stack."""
        return self.temporal * self.spatial

    def __str__(self) -> str:
        return f"{self.temporal}x{self.spatial}"


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What ties a key, an artifact and its encrypted clips together; all of it is public.

    Args:
        scheme: id of the format, ``lcve-1``.
        key_id: 32 hex digits.
        salt: 32 hex digits.
        geometry: clip and cube size.
        layout: how encrypted clips travel.

    Raises:
        ValueError: a key id or salt that is not 32 lower-case hex digits.
    """

    scheme: str
    key_id: str
    salt: str
    geometry: ClipGeometry
    layout: Layout

    def __post_init__(self) -> None:
        for name, value in (("key id", self.key_id), ("salt", self.salt)):
            if not _HEX.fullmatch(value):
                raise ValueError(f"a {name} is 32 lower-case hex digits, received {value!r}")

    def require(self, other: Binding, *, here: str, there: str) -> None:
        """Check that two bindings agree.

        Raises:
            MismatchError: names everything that differs, in the words of ``here`` and ``there``.
        """
        differing = [
            f"{name.replace('_', ' ')} {getattr(self, name)} in the {here}, {getattr(other, name)} in the {there}"
            for name in ("scheme", "key_id", "salt", "geometry", "layout")
            if getattr(self, name) != getattr(other, name)
        ]
        if differing:
            raise MismatchError(
                f"the {there} does not belong to this {here}: {'; '.join(differing)}",
                hint="use the key and the client folder that were made with this artifact",
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainClip:
    """Clips as a camera sees them.

    Args:
        values: ``[..., T, H, W, C]``, RGB; uint8 0..255 (what artifacts take) or any float.
    """

    values: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class EncryptedClip:
    """Clips that only the holder of the key can read.

    Args:
        values: ``[..., N, L]`` (layout ``cubes``) or ``[..., T, H, W, C]`` (layout ``video``).
        binding: what they were encrypted for.

    Raises:
        ValueError: the trailing axes are not those of the binding's geometry and layout.
    """

    values: Any
    binding: Binding

    def __post_init__(self) -> None:
        expected = self.binding.layout.shape(self.binding.geometry)
        if tuple(self.values.shape[-len(expected) :]) != expected:
            raise ValueError(
                f"an encrypted clip of {self.binding.geometry} in layout {self.binding.layout} ends in the axes "
                f"{list(expected)}, received {list(self.values.shape)}"
            )
