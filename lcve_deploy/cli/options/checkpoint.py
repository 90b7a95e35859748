"""Options for facts that a checkpoint may not state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cloup

from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.types import PATH, POSITIVE, ChannelValues

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints import CheckpointOptions

__all__ = ["CheckpointFacts", "checkpoint_options"]

_FAMILIES: Final = ("videomae", "videomae-v2", "mvd", "umt", "internvideo")
_READOUTS: Final = ("mean", "first-token")
_OUTPUTS: Final = ("logits", "features", "tokens")


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """Facts about a checkpoint, stated by the user; see ``lcve_deploy.exporters.checkpoints.CheckpointOptions``."""

    num_heads: int | None
    family: str | None
    readout: str | None
    weights: str | None
    frames: int | None
    size: int | None
    short_side: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    output_kind: str | None
    class_vectors: Path | None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("--mean and --std must be used together")

    def options(self) -> CheckpointOptions:
        """Return the options of the loader; the operator's commands never import it."""
        from lcve_deploy.exporters.checkpoints import CheckpointOptions
        from lcve_deploy.exporters.checkpoints.families import Family
        from lcve_deploy.exporters.checkpoints.options import ReadoutChoice
        from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
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
            output=OutputChoice(self.output_kind) if self.output_kind else None,
            class_vectors=self.class_vectors,
        )


_OPTIONS: Final = (
    cloup.option("--num-heads", type=POSITIVE, metavar="N", help="Number of attention heads, if unknown."),
    cloup.option("--family", type=cloup.Choice(_FAMILIES), help="Codebase of an official file."),
    cloup.option("--readout", type=cloup.Choice(_READOUTS), help="Input of the classifier in an official file."),
    cloup.option(
        "--weights", metavar="NAME", help="Set of weights, such as model_ema, if an official file has several."
    ),
    cloup.option("--frames", type=POSITIVE, metavar="N", help="Frames per clip.  [official files: 16]"),
    cloup.option("--size", type=POSITIVE, metavar="PIXELS", help="Height and width of a frame.  [official files: 224]"),
    cloup.option("--short-side", type=POSITIVE, metavar="PIXELS", help="Shorter side of a frame after resizing."),
    cloup.option(
        "--mean", type=ChannelValues(), help="Mean of each channel, for values from 0 to 1.  [VideoMAE: ImageNet's]"
    ),
    cloup.option("--std", type=ChannelValues(), help="Standard deviation of each channel.  [VideoMAE: ImageNet's]"),
)
_OUTPUT: Final = cloup.option_group(
    "Output",
    cloup.option(
        "--output-kind",
        type=cloup.Choice(_OUTPUTS),
        help="What the model answers: logits, one vector, or a vector for each token.  [what the checkpoint is for]",
    ),
    cloup.option(
        "--class-vectors",
        type=PATH,
        metavar="FILE",
        help="A vector for each class, such as embeddings of texts, in place of a classifier: .safetensors or .npz.",
    ),
)

checkpoint_options: Final = value_from_options(
    "checkpoint",
    CheckpointFacts,
    cloup.option_group("Checkpoint", *_OPTIONS, help="Facts that the file does not state, or states incorrectly."),
    _OUTPUT,
)
