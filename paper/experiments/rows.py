"""The rows of a seed, in the order in which they run: models for plain clips before what starts from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from paper.experiments.records import Row, Task, Way
from paper.experiments.scrambled import FED
from paper.methods.table import DOWNSAMPLINGS, METHODS

__all__ = ["COMPARED", "PLAIN", "SERVICE", "rows"]

PLAIN: Final = "plain"
SERVICE: Final = "lcve-video"
"""What the service runs on."""
COMPARED: Final = (
    *(method.name for method in DOWNSAMPLINGS),
    *("pixel-video", "cube-video", "qi-frame", "qi-video", "le-frame", "le-video", "lcve-frame", "lcve-video"),
)
"""What models are fine-tuned on."""


def rows() -> Iterator[Row]:
    """Every row of a seed."""
    for task, way, names in (
        (Task.ACTION, Way.TRAINED, (PLAIN,)),
        (Task.IDENTITY, Way.TRAINED, (PLAIN,)),
        (Task.ACTION, Way.SCRAMBLED, FED),
        (Task.IDENTITY, Way.SCRAMBLED, (SERVICE,)),
        (Task.ACTION, Way.FINE_TUNED, COMPARED),
        (Task.IDENTITY, Way.FINE_TUNED, COMPARED),
        (Task.ACTION, Way.UNTRAINED, tuple(METHODS)),
        (Task.IDENTITY, Way.UNTRAINED, tuple(METHODS)),
        (Task.IDENTITY, Way.FREE, (PLAIN, SERVICE)),
        *((task, Way.FINE_TUNED, (PLAIN,)) for task in Task),
        *((task, way, (SERVICE,)) for way in (Way.FINE_TUNED_1024, Way.FINE_TUNED_256) for task in Task),
        *((task, Way.OTHER_KEYS, (SERVICE,)) for task in Task),
    ):
        yield from (Row(task=task, method=name, way=way) for name in names)
