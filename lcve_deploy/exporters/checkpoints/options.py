"""Facts that the owner states about a checkpoint, and settings that a checkpoint states for making clips."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from lcve_deploy.exporters.checkpoints.families import Family
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.model.assumptions import Assumption, Fact
from lcve_deploy.model.preprocess import Resample, Rounding, Sampling
from lcve_deploy.model.transformer import IMAGENET, Normalisation

__all__ = [
    "IMAGENET_ASSUMED",
    "CheckpointOptions",
    "ReadoutChoice",
    "StatedPreprocessing",
    "assumed_normalisation",
    "normalisation_arguments",
]


def normalisation_arguments(normalisation: Normalisation) -> dict[str, str]:
    """Return the options that state a normalisation, with their values exact."""
    stated = {"--mean": normalisation.mean, "--std": normalisation.std}
    return {name: ",".join(repr(float(number)) for number in numbers) for name, numbers in stated.items()}


def assumed_normalisation(normalisation: Normalisation, value: str) -> Assumption:
    """Return the assumption of a normalisation, described by a text."""
    arguments = normalisation_arguments(normalisation)
    return Assumption(fact=Fact.NORMALISATION, value=value, option="--mean and --std", arguments=arguments)


IMAGENET_ASSUMED: Final = assumed_normalisation(IMAGENET, "ImageNet mean and std")


class ReadoutChoice(StrEnum):
    """Tokens of the last block that a classifier reads, as stated by the owner."""

    MEAN = "mean"
    FIRST_TOKEN = "first-token"


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """Facts that a checkpoint may not state; None if the owner does not state them either.

    Args:
        heads: number of attention heads.
        frames: number of frames in a clip.
        size: height and width of a clip, pixels.
        short_side: short side of a frame before the crop, pixels; overrides the checkpoint.
        normalisation: input normalisation; overrides the checkpoint's family or processor.
        family: codebase of an official file.
        readout: tokens that the classifier of an official file reads.
        weights: name of the wrapper of an official file to take the weights from.
        output: what the model should answer; by default what the checkpoint is for.
        class_vectors: file with a vector for each class, which take the place of a classifier.
    """

    heads: int | None = None
    frames: int | None = None
    size: int | None = None
    short_side: int | None = None
    normalisation: Normalisation | None = None
    family: Family | None = None
    readout: ReadoutChoice | None = None
    weights: str | None = None
    output: OutputChoice | None = None
    class_vectors: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How frames are resized; they are not resized if both sizes are None.

    Args:
        short_side: short side of a frame after resizing, pixels.
        size: (height, width) of a frame after resizing, pixels.
        resample: resampling filter.
    """

    short_side: int | None = None
    size: tuple[int, int] | None = None
    resample: Resample = Resample.BILINEAR


@dataclass(frozen=True, kw_only=True)
class StatedPreprocessing:
    """Settings that a checkpoint states for making clips; None if it does not state them.

    Args:
        sampling: how frames are chosen.
        stride: distance between frames, for Kinetics sampling.
        short_side: short side of a frame before the crop, pixels.
        doubt: why the sampling is unknown although the training arguments mention it; empty otherwise.
        framing: how frames are resized, instead of a short side.
        crop_rounding: how the first pixel of a crop is rounded.
    """

    sampling: Sampling | None = None
    stride: int | None = None
    short_side: int | None = None
    doubt: str = ""
    framing: Framing | None = None
    crop_rounding: Rounding = Rounding.NEAREST
