"""Options of clips: ``--views``, ``--sampling``, ``--stride`` and ``--quality``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cloup

from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.types import POSITIVE, EnumChoice, Quality, ViewCounts
from lcve_deploy.clips import Views
from lcve_deploy.model.preprocess import Preprocess, Sampling

__all__ = ["FrameOptions", "clip_options", "sampling_options", "window_options"]


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """Selection of the frames of a video that become clips, and the quality of these.

    Args:
        views: temporal and spatial views.
        sampling: how frames are chosen; None for the artifact's setting.
        stride: distance between frames; None for the artifact's setting.
        step: quantisation step; None for the default, and for clips that have none.
    """

    views: Views = Views()  # noqa: RUF009 (frozen)
    sampling: Sampling | None = None
    stride: int | None = None
    step: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether any option differs from its default."""
        return self != FrameOptions()

    def preprocess(self, settings: Preprocess) -> Preprocess:
        """Return the artifact's preprocessing, changed by the options that are set."""
        return settings.with_sampling(self.sampling, self.stride)


_VIEWS: Final = cloup.option(
    "--views",
    type=ViewCounts(),
    default="1x1",
    show_default=True,
    metavar="TxS",
    help="Temporal x spatial views, such as 5x3.",
)
_SAMPLING: Final = (
    cloup.option("--sampling", type=EnumChoice(Sampling), help="How the frames of a clip are chosen."),
    cloup.option("--stride", type=POSITIVE, metavar="N", help="Distance between the frames of a clip."),
)
_QUALITY: Final = cloup.option(
    "--quality",
    "step",
    type=Quality(),
    metavar="NAME",
    help="Quality of clips of an artifact with --wire dct: fine (step 6), normal (16) or small (40), or a quantisation "
    "step.  [default: normal]",
)

clip_options: Final = value_from_options(
    "frames", FrameOptions, cloup.option_group("Clip", _VIEWS, *_SAMPLING, _QUALITY)
)
window_options: Final = value_from_options("frames", FrameOptions, cloup.option_group("Clip", *_SAMPLING, _QUALITY))
sampling_options: Final = value_from_options("frames", FrameOptions, cloup.option_group("Clip", *_SAMPLING))
