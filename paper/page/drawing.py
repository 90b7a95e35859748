"""What both charts share: colours, settings, and files that are the same for the same figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

__all__ = ["COLOURS", "GREY", "drawn", "family"]

GREY: Final = "#555555"
COLOURS: Final = {
    "plain": "#000000",
    "down": "#E69F00",
    "qi": "#CC79A7",
    "le": "#D55E00",
    "pixel": "#56B4E9",
    "cube": "#009E73",
    "lcve": "#0072B2",
}
"""Of Okabe and Ito's palette, told apart by all eyes; by the first word of a method's name."""

_SETTINGS: Final[dict[Any, Any]] = {
    "svg.hashsalt": "lcve",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def family(method: str) -> str:
    """Key of a method in ``COLOURS``."""
    return method.split("-")[0]


@contextmanager
def drawn(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """A figure to draw in, in inches; it is written to ``path`` as SVG at the end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(_SETTINGS):
        figure = plt.figure(figsize=size, layout="constrained")
        yield figure
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
