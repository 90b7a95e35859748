"""Class names of public data sets, in the order in which public checkpoints number their classes.

``kinetics-400.txt`` has the 400 names of Kinetics-400 (Kay et al., 2017) in alphabetical order, as VideoMAE,
VideoMAEv2, MMAction2 and torchvision number them. Source: ``torchvision.models._meta`` of torchvision 0.24.1. It was
compared with ``misc/label_map_k400.txt`` of VideoMAEv2, which has the same order but spells 13 names differently, such
as "dyeing hair" for "dying hair".
"""

from __future__ import annotations

import importlib.resources
from typing import Final

__all__ = ["NAMED_LABELS", "class_names"]

NAMED_LABELS: Final = ("kinetics-400",)
"""Data sets whose class names are included in the package."""


def class_names(data_set: str) -> tuple[str, ...]:
    """Return the class names of a data set, in the order of the logits.

    Args:
        data_set: one of ``NAMED_LABELS``.

    Raises:
        ValueError: the data set is not one of ``NAMED_LABELS``.
    """
    if data_set not in NAMED_LABELS:
        raise ValueError(f"expected one of {', '.join(NAMED_LABELS)}, received {data_set!r}")
    text = importlib.resources.files(__package__).joinpath(f"{data_set}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
