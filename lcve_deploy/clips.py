"""Plain and encrypted clips, as two types that a type checker distinguishes.

``Binding`` is the public label of artifacts and encrypted clips; it must agree before anything runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

import numpy as np

from lcve_deploy.errors import MismatchError
from lcve_deploy.geometry import ClipGeometry

__all__ = [
    "COEFFICIENTS",
    "SALT_BYTES",
    "SCHEME",
    "STEP",
    "Binding",
    "EncryptedClip",
    "KeyRef",
    "Layout",
    "PlainClip",
    "Scheme",
    "Views",
    "coefficient_record",
]


class Scheme(StrEnum):
    """Encryption schemes, by their ids."""

    LCVE = "lcve-1"
    """Values of a clip are shuffled, and none changes."""
    DCT = "lcve-dct-1"
    """Quantised coefficients of every cube are shuffled and get secret signs; they compress well."""


SCHEME: Final = Scheme.LCVE.value
SALT_BYTES: Final = 16

STEP: Final = "step"
"""Field of a record with the quantisation step of a clip."""
COEFFICIENTS: Final = "coefficients"
"""Field of a record with the quantised coefficients of a clip."""

_HEX: Final = re.compile(r"[0-9a-f]{32}")


class Layout(StrEnum):
    """Layout of the values of an encrypted clip."""

    CUBES = "cubes"
    """``[N, L]``: shuffled cubes; encryption replaces the model's patchify step."""
    VIDEO = "video"
    """``[T, H, W, C]``: shuffled cubes, reassembled as a clip (step 7 of the paper)."""

    def shape(self, geometry: ClipGeometry) -> tuple[int, ...]:
        """Return the shape of one encrypted clip."""
        return (geometry.cubes, geometry.values) if self is Layout.CUBES else geometry.clip_shape


def coefficient_record(geometry: ClipGeometry) -> np.dtype[np.void]:
    """Return the dtype of a clip of the scheme ``lcve-dct-1``: the step, and integers in float16, ``[N, L]``."""
    return np.dtype([(STEP, "<f4"), (COEFFICIENTS, "<f2", (geometry.cubes, geometry.values))])


@dataclass(frozen=True, kw_only=True)
class Views:
    """Numbers of temporal and spatial views of a video.

    Clips are ordered by view index: temporal index · ``spatial`` + spatial index.

    Args:
        temporal: number of temporal views, at least 1.
        spatial: number of spatial views, at least 1.

    Raises:
        ValueError: a number is below 1.
    """

    temporal: int = 1
    spatial: int = 1

    def __post_init__(self) -> None:
        if min(self.temporal, self.spatial) < 1:
            raise ValueError(f"expected at least 1x1 views, received {self}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``TxS``, for example ``5x3``.

        Raises:
            ValueError: the text has another form.
        """
        match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text, re.ASCII)
        if match is None:
            raise ValueError(f"expected views such as 5x3 (temporal x spatial), received {text!r}")
        return cls(temporal=int(match[1]), spatial=int(match[2]))

    @property
    def count(self) -> int:
        """Number of all views."""
        return self.temporal * self.spatial

    def __str__(self) -> str:
        return f"{self.temporal}x{self.spatial}"


@dataclass(frozen=True, kw_only=True)
class KeyRef:
    """The public name of a key's orders: what a clip says of its key, and by which a server finds the key's tensors.

    Args:
        key_id: id of the key, 32 lower-case hex digits.
        salt: salt that the orders were made with, 32 lower-case hex digits.
    """

    key_id: str
    salt: str

    def __str__(self) -> str:
        return f"{self.key_id} with the salt {self.salt}"


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Public facts that key, artifact and encrypted clips must share.

    Args:
        scheme: id of the encryption scheme, one of ``Scheme``.
        key_id: id of the key, 32 lower-case hex digits.
        salt: salt of the artifact, 32 lower-case hex digits.
        geometry: clip and cube size.
        layout: layout of encrypted clips.

    Raises:
        ValueError: the key id or the salt is not 32 lower-case hex digits, or the scheme does not have the layout.
    """

    scheme: str
    key_id: str
    salt: str
    geometry: ClipGeometry
    layout: Layout

    def __post_init__(self) -> None:
        for name, value in (("key id", self.key_id), ("salt", self.salt)):
            if not _HEX.fullmatch(value):
                raise ValueError(f"expected a {name} of 32 lower-case hex digits, received {value!r}")
        if self.scheme == Scheme.DCT and self.layout is not Layout.CUBES:
            raise ValueError(f"the scheme {self.scheme} has the layout {Layout.CUBES}, received {self.layout}")

    @property
    def packed(self) -> bool:
        """Whether clips are records, and travel packed."""
        return self.scheme == Scheme.DCT

    @property
    def key(self) -> KeyRef:
        """Key id and salt."""
        return KeyRef(key_id=self.key_id, salt=self.salt)

    def require(self, other: Binding, *, here: str, there: str) -> None:
        """Check that two bindings agree.

        Args:
            other: the other binding.
            here: what has this binding, for the message.
            there: what has the other binding, for the message.

        Raises:
            MismatchError: the bindings differ; the message lists all differences.
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
    """Clips that are not encrypted.

    Args:
        values: RGB ``[..., T, H, W, C]``; uint8 0..255 as artifacts require, or any float.
    """

    values: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class EncryptedClip:
    """Clips that only the holder of the key can read.

    Args:
        values: ``[..., N, L]`` (layout ``cubes``) or ``[..., T, H, W, C]`` (layout ``video``). Of the scheme
            ``lcve-dct-1``: NumPy records ``[...]`` of ``coefficient_record``, one for each clip.
        binding: binding of the artifact that they were encrypted for.

    Raises:
        ValueError: the values do not match the binding's scheme, geometry and layout.
    """

    values: Any
    binding: Binding

    def __post_init__(self) -> None:
        if self.binding.packed:
            self._require_records()
            return
        expected = self.binding.layout.shape(self.binding.geometry)
        if tuple(self.values.shape[-len(expected) :]) != expected:
            raise ValueError(
                f"an encrypted clip of {self.binding.geometry} in layout {self.binding.layout} ends in the axes "
                f"{list(expected)}, received {list(self.values.shape)}"
            )

    def _require_records(self) -> None:
        if self.values.dtype != coefficient_record(self.binding.geometry):
            raise ValueError(
                f"an encrypted clip of {self.binding.geometry} in scheme {self.binding.scheme} is a record of a step "
                f"and coefficients, received {str(self.values.dtype)[:100]} {list(self.values.shape)}"
            )
