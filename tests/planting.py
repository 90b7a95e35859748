"""A random key, and every form in which it, or what is made from it, could show."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lcve_deploy import ClipGeometry, SecurityKey, derive_orders

_DTYPES = ("u1", "<u2", ">u2", "<i4", ">i4", "<i8", ">i8", "<f4")
_PIECE = 8  # bytes of a secret, or entries of an order, that already count as a leak

_SURE = 20  # fewer bytes of an order may be there by chance


@dataclass(kw_only=True)
class Planted:
    """What must not show.

    Args:
        key: the key.
        geometry, classes: what orders are made for.
        data: what to look for in bytes, by a name to report.
        lists: what to look for among the numbers of a text.
    """

    key: SecurityKey
    geometry: ClipGeometry
    classes: int
    data: dict[str, bytes] = field(default_factory=dict, repr=False)
    lists: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._add_bytes("secret", self.key.to_bytes()[8:40])
        self._add_bytes("derived secret", self.key.derive("camera-7").to_bytes()[8:40])

    def add_salt(self, salt: bytes) -> None:
        """Look for what an artifact of this salt is made from, too."""
        for info in (f"cube-order/{self.geometry}", f"pixel-order/{self.geometry}", f"label-order/{self.classes}"):
            self._add_bytes(f"{info} {salt.hex()}", self.key.kdf(f"lcve-1/{info}", 32, salt))
        orders = derive_orders(self.key, salt=salt, geometry=self.geometry, classes=self.classes)
        assert orders.label_order is not None
        named = {"K1": orders.cube_order, "K2": orders.pixel_order, "K3": orders.label_order}
        for name, order in named.items():
            self._add_order(f"{name} {salt.hex()}", order)
            self._add_order(f"{name} {salt.hex()}, inverse", np.argsort(order))

    def in_bytes(self, data: bytes) -> list[str]:
        """Names of all that shows in a file or the memory of a process; as text, too."""
        return [name for name, piece in self.data.items() if piece in data]

    def is_in(self, data: bytes) -> bool:
        """Whether anything shows; of much data that holds it, quicker than all names."""
        return any(piece in data for piece in self.data.values())

    def in_text(self, text: str) -> list[str]:
        """Names of all that shows in what is printed; numbers with anything between them, such as commas."""
        numbers = f" {re.sub(r'[^0-9]+', ' ', text)} "
        return self.in_bytes(text.encode()) + [name for name, shown in self.lists.items() if shown in numbers]

    def _add_bytes(self, name: str, secret: bytes) -> None:
        for start in (0, len(secret) - _PIECE):
            piece = secret[start : start + _PIECE]
            escaped = repr(piece)[2:-1].encode()
            forms = {"raw": piece, "hex": piece.hex().encode(), "HEX": piece.hex().upper().encode(), "repr": escaped}
            self.data |= {f"{name}, {form} at {start}": form_data for form, form_data in forms.items()}
            self.lists[f"{name}, list at {start}"] = _listed(piece)
        for shift in range(3):  # a secret may begin anywhere in what was encoded
            inner = base64.b64encode(bytes(shift) + secret)[4:-4]
            self.data[f"{name}, base64 {shift}"] = inner
            self.data[f"{name}, URL base64 {shift}"] = inner.translate(bytes.maketrans(b"+/", b"-_"))

    def _add_order(self, name: str, order: np.ndarray) -> None:
        for dtype in _DTYPES:
            data = order.astype(dtype).tobytes()[:64]
            if len(data) >= _SURE and (dtype != "u1" or order.max() < 256):
                self.data[f"{name}, {dtype}"] = data
        if list(order) != sorted(order):
            self.lists[f"{name}, list"] = _listed(order[:_PIECE])


def _listed(numbers: Iterable[int]) -> str:
    return f" {' '.join(map(str, numbers))} "


def files_under(folder: Path) -> Iterator[Path]:
    """All files, hidden ones too."""
    return (path for path in folder.rglob("*") if path.is_file())
