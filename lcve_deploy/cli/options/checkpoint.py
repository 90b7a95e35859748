"""Options of what a checkpoint may not say itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cloup

from lcve_deploy.cli.options.groups import hands_over
from lcve_deploy.cli.options.types import POSITIVE, ChannelValues

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints import CheckpointOptions

__all__ = ["CheckpointFacts", "checkpoint_options"]

_FAMILIES: Final = ("videomae", "videomae-v2", "mvd", "umt", "internvideo")
_READOUTS: Final = ("mean", "first-token")


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What the user says of a checkpoint; see ``lcve_deploy.exporters.checkpoints.CheckpointOptions``."""

    num_heads: int | None
    family: str | None
    readout: str | None
    weights: str | None
    frames: int | None
    size: int | None
    short_side: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("--mean and --std are given together, or not at all")

    def options(self) -> CheckpointOptions:
        """Return the options of the loader, which the operator's commands never import."""
        from lcve_deploy.exporters.checkpoints import CheckpointOptions
        from lcve_deploy.exporters.checkpoints.families import Family
        from lcve_deploy.exporters.checkpoints.options import ReadoutChoice
        from lcve_deploy.model.transformer import Normalisation

        mean, std = self.mean, self.std
        return CheckpointOptions(
            heads=self.num_heads,
            frames=self.frames,
            size=self.size,
            short_side=self.short_side,
            normalisation=Normalisation(mean=mean, std=std) if mean is not None and std is not None else None,
            family=Family(self.family) if self.family else None,
            readout=ReadoutChoice(self.readout) if self.readout else None,
            weights=self.weights,
        )


_OPTIONS: Final = (
    cloup.option("--num-heads", type=POSITIVE, metavar="N", help="Attention heads, if they are not known."),
    cloup.option("--family", type=cloup.Choice(_FAMILIES), help="Codebase that an official file is from."),
    cloup.option("--readout", type=cloup.Choice(_READOUTS), help="What the classifier of an official file reads."),
    cloup.option(
        "--weights", metavar="NAME", help="Set of weights, if an official file has several, such as model_ema."
    ),
    cloup.option("--frames", type=POSITIVE, metavar="N", help="Frames of a clip.  [official files: 16]"),
    cloup.option("--size", type=POSITIVE, metavar="PIXELS", help="Height and width.  [official files: 224]"),
    cloup.option("--short-side", type=POSITIVE, metavar="PIXELS", help="Shorter side of a resized frame."),
    cloup.option("--mean", type=ChannelValues(), help="Mean of each channel, for values 0..1.  [VideoMAE: ImageNet's]"),
    cloup.option("--std", type=ChannelValues(), help="Standard deviation of each channel.  [VideoMAE: ImageNet's]"),
)

checkpoint_options: Final = hands_over(
    "checkpoint",
    CheckpointFacts,
    cloup.option_group("Checkpoint", *_OPTIONS, help="What the file does not say, or says wrongly."),
)
