"""The paper's own figures. Nothing here is measured by this project.

Source: LCVE paper, Tables 1 and 3 to 6. Accuracies are top-1, in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lcve_deploy.keys.keyspace import Level

__all__ = [
    "ABLATION",
    "ABLATION_DATASETS",
    "CLASSES",
    "COMPARISON",
    "COMPARISON_DATASETS",
    "KEY_SPACES",
    "LARGE",
    "LARGE_DATASETS",
    "PRIVACY",
    "PRIVACY_COLUMNS",
    "PublishedKeySpace",
]


@dataclass(frozen=True, kw_only=True)
class PublishedKeySpace:
    """A row of Table 1.

    Args:
        method: as the paper names it.
        level: what it works on.
        formula: its column "Order".
        size: its column "Our setting": 16×224×224 in cubes of 2×16×16.
    """

    method: str
    level: Level
    formula: str
    size: str


def _key_space(method: str, level: Level, formula: str, size: str) -> PublishedKeySpace:
    return PublishedKeySpace(method=method, level=level, formula=formula, size=size)


KEY_SPACES: Final = (
    _key_space("Pixel Shuffle", Level.FRAME, "(hwC)!", "1.8×10^1884"),
    _key_space("Patch Shuffle", Level.FRAME, "N_p!", "5.1×10^365"),
    _key_space("LE", Level.FRAME, "(2hwC)!·2^(2hwC)", "3.9×10^4691"),
    _key_space("Qi et al.", Level.FRAME, "(hw/4)!·N_p!", "6.4×10^454"),
    _key_space("LCVE", Level.FRAME, "(hwC)!·N_p!", "9.3×10^2249"),
    _key_space("Pixel Shuffle", Level.VIDEO, "(thwC)!", "1.6×10^4229"),
    _key_space("Cube Shuffle", Level.VIDEO, "N_c!", "2.1×10^4331"),
    _key_space("LE", Level.VIDEO, "(2thwC)!·2^(2thwC)", "1.3×10^10306"),
    _key_space("Qi et al.", Level.VIDEO, "(hwt/8)!·N_c!", "2.7×10^4420"),
    _key_space("LCVE", Level.VIDEO, "(thwC)!·N_c!", "3.5×10^8560"),
)
"""Table 1."""

CLASSES: Final = {"HMDB51": 51, "UCF-101": 101, "Diving48": 48, "SSV2": 174, "K400": 400}
"""Table 2."""

COMPARISON_DATASETS: Final = ("HMDB51", "UCF-101", "Diving48")
COMPARISON: Final = {
    "plain/trained": (70.0, 95.6, 86.2),
    "down-2/fine-tuned": (54.1, 78.8, 34.8),
    "down-4/fine-tuned": (42.4, 61.0, 16.9),
    "qi-frame/fine-tuned": (27.1, 34.6, 8.8),
    "le-frame/fine-tuned": (7.3, 4.4, 5.0),
    "qi-video/fine-tuned": (40.7, 59.8, 14.5),
    "le-video/fine-tuned": (9.6, 6.0, 4.5),
    "lcve-video/untrained": (1.9, 1.0, 3.7),
    "lcve-video/fine-tuned": (19.0, 33.0, 7.9),
    "lcve-video/scrambled": (70.0, 95.6, 86.2),
}
"""Table 3, without the five methods that other papers report, by method and way of our rows."""

LARGE_DATASETS: Final = ("SSV2", "K400")
LARGE: Final = {
    "plain/trained": (69.0, 80.2),
    "down-2/fine-tuned": (54.5, 71.5),
    "down-4/fine-tuned": (39.8, 53.4),
    "lcve-video/untrained": (0.4, 0.3),
    "lcve-video/fine-tuned": (19.2, 59.5),
    "lcve-video/scrambled": (69.0, 80.2),
}
"""Table 4."""

PRIVACY_COLUMNS: Final = ("KTH action", "KTH actor", "IPN action", "IPN gender")
PRIVACY: Final = {
    "plain": (96.0, 98.8, 85.2, 93.8),
    "down-2": (91.6, 91.8, 82.3, 80.0),
    "down-8": (91.2, 91.6, 79.5, 70.1),
    "down-32": (85.6, 82.6, 53.0, 63.3),
    "lcve-video": (96.0, 4.0, 85.2, 61.3),
}
"""Table 5, without H. Wang et al. and BDQ, by method. Those of downsampling are reported by the authors of BDQ."""

ABLATION_DATASETS: Final = COMPARISON_DATASETS
ABLATION: Final = {
    "": (70.0, 95.6, 86.2),
    "P": (32.6, 52.8, 9.3),
    "C": (54.4, 80.4, 35.5),
    "S": (1.5, 1.0, 4.0),
    "PC": (19.0, 33.0, 7.9),
    "PCS": (70.0, 95.6, 86.2),
}
"""Table 6, by the operations that are on: P(ixel shuffling), C(ube shuffling), S(crambling).

Which row has which follows from section 5.3, and from Table 3, which has the last two rows as well.
"""
