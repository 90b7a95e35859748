"""How many orders LCVE and the methods it is compared with can choose from, and what bounds the worth of that number.

Source: LCVE paper, section 3.4, equation 1 and Table 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import MAX_EMAX, ROUND_HALF_UP, Context, Decimal, localcontext
from enum import StrEnum
from typing import Final

from lcve_deploy.geometry import ClipGeometry

__all__ = ["BOUNDS", "KEY_BITS", "Bound", "KeySpace", "Level", "Magnitude", "count_keys", "key_spaces"]

KEY_BITS: Final = 256
"""Bits of the secret in a key file."""

_WORK: Final = Context(prec=40, Emax=MAX_EMAX)
"""A product of k numbers is off by less than k parts in 10^39; the longest here has fewer than 10^6."""
_SHOWN: Final = Context(prec=2, rounding=ROUND_HALF_UP, Emax=MAX_EMAX)


class Level(StrEnum):
    """What a method shuffles: the patches of every frame, all frames alike, or the cubes of a clip."""

    FRAME = "frame"
    VIDEO = "video"


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """A whole number of at least 1, however large.

    Args:
        mantissa: 1.0 to 9.9, rounded to two digits, halves up.
        exponent: the number is about ``mantissa · 10^exponent``.
        bits: log2 of the number.
    """

    mantissa: float
    exponent: int
    bits: float

    def __str__(self) -> str:
        """Like ``3.5×10^8560``; a number below 100 as it is."""
        if self.exponent < 2:
            return f"{self.mantissa * 10**self.exponent:.0f}"
        return f"{self.mantissa:.1f}×10^{self.exponent}"


@dataclass(frozen=True, kw_only=True)
class KeySpace:
    """One row of the table.

    Args:
        method: its name in the paper.
        level: what it works on.
        formula: how many orders there are, as the paper writes it.
        numbers: the same with the numbers of the geometry; empty where the method cannot take it.
        size: the value of that; None where the method cannot take the geometry.
        chosen_clips: so many chosen clips, encrypted, are enough to read the whole order; None likewise.
        known_clip: what one known clip gives, so far as its cubes and values can be told apart.
        remark: why there is no size, or how it differs from the formula; else empty.
    """

    method: str
    level: Level
    formula: str
    numbers: str
    size: Magnitude | None
    chosen_clips: int | None
    known_clip: str
    remark: str

    @property
    def key_file_bits(self) -> float | None:
        """log2 of the orders that can come from a key file under one salt: never more than ``KEY_BITS``."""
        return None if self.size is None else min(self.size.bits, float(KEY_BITS))


def key_spaces(geometry: ClipGeometry) -> tuple[KeySpace, ...]:
    """The key space of every method at a geometry: the paper's Table 1, in its order.

    At frame level, a frame is a clip of its own in patches of h x w pixels, and all frames share one order. The two
    digits of a size are those of the exact integer, but for one whose next 30 digits are all on the border of rounding.

    Source: LCVE paper, section 3.4, equation 1, Table 1.
    """
    _, height, width = geometry.cube
    at = {Level.FRAME: replace(geometry, frames=1, cube=(1, height, width)), Level.VIDEO: geometry}
    return tuple(row.of(at[row.level]) for row in _ROWS)


def count_keys(sizes: tuple[int, ...], *, flips: int = 0) -> Magnitude:
    """Return the number of keys that choose an order of each of these sizes and, so many times, one of two."""
    with localcontext(_WORK):
        factors = itertools.chain.from_iterable(range(2, size + 1) for size in sizes)
        product = math.prod(map(Decimal, factors), start=Decimal(1 << flips))
        bits = product.log10() / Decimal(2).log10()
    shown = _SHOWN.plus(product)
    exponent = shown.adjusted()
    return Magnitude(mantissa=float(shown.scaleb(-exponent, _SHOWN)), exponent=exponent, bits=float(bits))


@dataclass(frozen=True, kw_only=True)
class _Shuffle:
    """What a method does to a geometry: sizes of its orders, how many values it may reverse, and of what values."""

    sizes: tuple[int, ...] = ()
    flips: int = 0
    base: int = 256
    remark: str = ""

    def __str__(self) -> str:
        flips = (f"2^{self.flips}",) if self.flips else ()
        return "·".join((*(f"{size}!" for size in self.sizes), *flips))

    def size(self) -> Magnitude:
        return count_keys(self.sizes, flips=self.flips)

    def chosen_clips(self) -> int:
        """A clip for each digit of the numbers that are shuffled, and one of zeros that shows what is reversed."""
        return sum(_digits(size, self.base) for size in self.sizes) + bool(self.flips)


def _digits(count: int, base: int) -> int:
    """How many digits tell ``count`` things apart."""
    return next(digits for digits in itertools.count() if base**digits >= count)


def _values(geometry: ClipGeometry) -> _Shuffle:
    return _Shuffle(sizes=(geometry.values,))


def _cubes(geometry: ClipGeometry) -> _Shuffle:
    return _Shuffle(sizes=(geometry.cubes,))


def _values_and_cubes(geometry: ClipGeometry) -> _Shuffle:
    return _Shuffle(sizes=(geometry.values, geometry.cubes))


def _half_bytes(geometry: ClipGeometry) -> _Shuffle:
    halves = 2 * geometry.values
    return _Shuffle(sizes=(halves,), flips=halves, base=16)


def _sub_patches(geometry: ClipGeometry) -> _Shuffle:
    return _sub_blocks(geometry, geometry.cube[1:])


def _sub_cubes(geometry: ClipGeometry) -> _Shuffle:
    if geometry.cube[0] > 1:
        return _sub_blocks(geometry, geometry.cube)
    flat = _sub_patches(geometry)
    return replace(flat, remark=flat.remark or "a cube of one frame is halved in space alone: (hw/4)!")


def _sub_blocks(geometry: ClipGeometry, sides: tuple[int, ...]) -> _Shuffle:
    """The pixels of a block of half these sides, in all blocks alike, and the cubes."""
    if any(side % 2 for side in sides):
        return _Shuffle(remark=f"the cube's sides {'x'.join(map(str, sides))} cannot all be halved")
    return _Shuffle(sizes=(math.prod(side // 2 for side in sides), geometry.cubes))


@dataclass(frozen=True, kw_only=True)
class _Row:
    method: str
    level: Level
    formula: str
    shuffle: Callable[[ClipGeometry], _Shuffle]

    def of(self, geometry: ClipGeometry) -> KeySpace:
        shuffle = self.shuffle(geometry)
        return KeySpace(
            method=self.method,
            level=self.level,
            formula=self.formula,
            numbers=str(shuffle),
            size=shuffle.size() if shuffle.sizes else None,
            chosen_clips=shuffle.chosen_clips() if shuffle.sizes else None,
            known_clip=_KNOWN_CLIP[self.method],
            remark=shuffle.remark,
        )


_ROWS: Final = (
    _Row(method="Pixel Shuffle", level=Level.FRAME, formula="(hwC)!", shuffle=_values),
    _Row(method="Patch Shuffle", level=Level.FRAME, formula="N_p!", shuffle=_cubes),
    _Row(method="LE", level=Level.FRAME, formula="(2hwC)!·2^(2hwC)", shuffle=_half_bytes),
    _Row(method="Qi et al.", level=Level.FRAME, formula="(hw/4)!·N_p!", shuffle=_sub_patches),
    _Row(method="LCVE", level=Level.FRAME, formula="(hwC)!·N_p!", shuffle=_values_and_cubes),
    _Row(method="Pixel Shuffle", level=Level.VIDEO, formula="(thwC)!", shuffle=_values),
    _Row(method="Cube Shuffle", level=Level.VIDEO, formula="N_c!", shuffle=_cubes),
    _Row(method="LE", level=Level.VIDEO, formula="(2thwC)!·2^(2thwC)", shuffle=_half_bytes),
    _Row(method="Qi et al.", level=Level.VIDEO, formula="(hwt/8)!·N_c!", shuffle=_sub_cubes),
    _Row(method="LCVE", level=Level.VIDEO, formula="(thwC)!·N_c!", shuffle=_values_and_cubes),
)

_KNOWN_CLIP: Final = {
    "Pixel Shuffle": "the order of the values",
    "Patch Shuffle": "the order of the patches",
    "Cube Shuffle": "the order of the cubes",
    "LE": "the order of the half bytes, and which are reversed",
    "Qi et al.": "the orders of pixels and blocks",
    "LCVE": "the orders of values and blocks",
}
"""What one known clip gives of each method."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What keeps the strength of a method below the size of its key space.

    Args:
        name: for machines.
        title: for people.
        text: what is known of it, in a few sentences; docs/evidence/security.md has the measurements.
        figures: bits, clips that are needed, shares of orders that were found and of values decrypted, by name.
    """

    name: str
    title: str
    text: str
    figures: Mapping[str, float]


BOUNDS: Final = (
    Bound(
        name="key_file",
        title="The key file",
        text="Its secret has 256 bits. With one salt it makes at most 2^256 different orders, however many there are: "
        "the column 'key file' is the smaller of both, in bits.",
        figures={"bits": KEY_BITS},
    ),
    Bound(
        name="known_clip",
        title="One known clip",
        text="Measured for LCVE: one plain clip and its encryption gave all of K1 and K2, at each of three geometries, "
        "in about a second. Measured for every method, on frames and on videos: one clip of a film at the paper's "
        "geometry gave the whole order, and with it every value of another clip. Another one has cubes that are equal, "
        "and gave 99.6 % of the order of cubes and all else. One clip of moving digits gave the whole order of every "
        "method but LE, and of that 99.6 % of the half bytes on average; four clips gave all. In the worst case 98.1 % "
        "of the values of other clips were right. Clips with large equal parts give less; more clips distinguish more.",
        figures={"clips": 1, "K1": 1.0, "K2": 1.0, "film_cubes": 0.996, "digits_half_bytes": 0.996, "values": 0.981},
    ),
    Bound(
        name="chosen_clips",
        title="Chosen clips",
        text="Clips that spell out every number leave nothing to luck. One for each digit in base 256 is enough, which "
        "is ceil(log_256 n) clips for an order of n; fewer may be. Half bytes take base 16, and a clip of zeros shows "
        "which of them are reversed. Measured for LCVE: four clips gave all of K1 and K2 at each of three geometries.",
        figures={"clips": 4, "K1": 1.0, "K2": 1.0},
    ),
    Bound(
        name="public_weights",
        title="Public weights",
        text="Anyone who knows the weights of the plain model can match their rows and columns with the scrambled "
        "ones, and needs no clip. Measured: all of K1, K2 and K3 of each of two models, in less than a second. "
        "'lcve audit SERVER --reference CHECKPOINT' does it with your artifact.",
        figures={"clips": 0, "K1": 1.0, "K2": 1.0, "K3": 1.0},
    ),
    Bound(
        name="encrypted_clip",
        title="Encrypted clips alone",
        text="One encrypted clip of real video and nothing else can be enough. Measured up to symmetries on three "
        "videos: one gave 97 % of K1 and 98 % of K2, another 0.2 % and 16 %.",
        figures={"clips": 1, "K1": 0.97, "K2": 0.98},
    ),
)
"""What the size of a key space leaves out. An attack that is not listed may do better."""
