"""What the owner says about a checkpoint, and what a checkpoint says about making clips."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lcve_deploy.assumptions import Assumption, Fact
from lcve_deploy.exporters.checkpoints.families import Family
from lcve_deploy.model.preprocess import Resample, Rounding, Sampling
from lcve_deploy.model.transformer import Normalisation

__all__ = ["IMAGENET_ASSUMED", "CheckpointOptions", "ReadoutChoice", "SaidPreprocessing"]

IMAGENET_ASSUMED: Final = Assumption(fact=Fact.NORMALISATION, value="ImageNet mean and std", option="--mean and --std")


class ReadoutChoice(StrEnum):
    """What a classifier reads of the last block's tokens, as its owner says it."""

    MEAN = "mean"
    FIRST_TOKEN = "first-token"


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """Facts that may be missing in a checkpoint; None if they are not given.

    Args:
        heads: attention heads.
        frames: frames of a clip.
        size: height and width of a clip, pixels.
        short_side: of a frame before the crop, pixels; overrides what the checkpoint says.
        normalisation: overrides what the checkpoint's family or processor says.
        family: codebase of an official file.
        readout: what the classifier of an official file reads.
        weights: name of the wrapper of an official file to take the weights from.
    """

    heads: int | None = None
    frames: int | None = None
    size: int | None = None
    short_side: int | None = None
    normalisation: Normalisation | None = None
    family: Family | None = None
    readout: ReadoutChoice | None = None
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How frames are resized; not at all if both sizes are None.

    Args:
        short_side: of a frame after resizing, pixels.
        size: (height, width) of a frame after resizing, pixels.
        resample: how.
    """

    short_side: int | None = None
    size: tuple[int, int] | None = None
    resample: Resample = Resample.BILINEAR


@dataclass(frozen=True, kw_only=True)
class SaidPreprocessing:
    """What a checkpoint says about making clips; None if it says nothing.

    Args:
        sampling: how frames are chosen.
        stride: between frames, for Kinetics sampling.
        short_side: of a frame before the crop, pixels.
        doubt: why the sampling is not known, although there are arguments about it.
        framing: how frames are resized, instead of a short side.
        crop_rounding: which pixel a crop starts at.
    """

    sampling: Sampling | None = None
    stride: int | None = None
    short_side: int | None = None
    doubt: str = ""
    framing: Framing | None = None
    crop_rounding: Rounding = Rounding.NEAREST
