"""Options that several commands share, and the types that read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lcve_deploy.clips import Views
from lcve_deploy.preprocess import Preprocess, Sampling

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints import CheckpointOptions

__all__ = [
    "AnyPath",
    "as_json",
    "checkpoint_options",
    "key_option",
    "sampling_options",
    "to_checkpoint_options",
    "to_preprocess",
    "tolerance_option",
    "verify_clip_option",
    "views_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

AnyPath = click.Path(path_type=Path)


class _Channels(click.ParamType):  # type: ignore[type-arg]
    """Numbers with commas, one a channel."""

    name = "a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers with commas, such as 0.5,0.5,0.5, received {value!r}", param, ctx)


class _Views(click.ParamType):  # type: ignore[type-arg]
    """``TxS``."""

    name = "TxS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Views:
        """Read the views."""
        if isinstance(value, Views):
            return value
        try:
            return Views.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


key_option = click.option("--key", "key_file", type=AnyPath, required=True, help="Key file.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
views_option = click.option(
    "--views", type=_Views(), default="1x1", show_default=True, help="Temporal x spatial views, such as 5x3."
)
tolerance_option = click.option(
    "--tolerance", type=click.FloatRange(min=0, min_open=True), help="Largest |Δlogit| that counts as equal."
)
verify_clip_option = click.option(
    "--verify-clip", "verify_clips", type=AnyPath, multiple=True, help="Video to compare on; may be repeated."
)


def sampling_options(command: _Command) -> _Command:
    """``--sampling`` and ``--stride``."""
    choice = click.Choice([s.value for s in Sampling])
    command = click.option("--stride", type=click.IntRange(min=1), help="Distance between the frames of a clip.")(
        command
    )
    return click.option("--sampling", type=choice, help="How the frames of a clip are chosen.")(command)


def to_preprocess(preprocess: Preprocess, sampling: str | None, stride: int | None) -> Preprocess:
    """The artifact's own preprocessing, with what the user asked for instead."""
    from dataclasses import replace

    return replace(
        preprocess,
        sampling=Sampling(sampling) if sampling else preprocess.sampling,
        stride=stride or preprocess.stride,
    )


def checkpoint_options(command: _Command) -> _Command:
    """What a checkpoint may not say itself."""
    options = (
        click.option("--num-heads", type=click.IntRange(min=1), help="Attention heads, where nothing says them."),
        click.option("--frames", type=click.IntRange(min=1), help="Frames of a clip.  [official files: 16]"),
        click.option("--size", type=click.IntRange(min=1), help="Height and width, pixels.  [official files: 224]"),
        click.option("--mean", type=_Channels(), help="Mean of each channel, for values 0..1.  [VideoMAE: ImageNet]"),
        click.option("--std", type=_Channels(), help="Standard deviation of each channel.  [VideoMAE: ImageNet]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def to_checkpoint_options(
    num_heads: int | None,
    frames: int | None,
    size: int | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> CheckpointOptions:
    """The options as the loader takes them."""
    from lcve_deploy.exporters.checkpoints import CheckpointOptions
    from lcve_deploy.transformer import Normalisation

    if (mean is None) != (std is None):
        raise click.UsageError("--mean and --std are given together, or not at all")
    normalisation = Normalisation(mean=mean, std=std) if mean is not None and std is not None else None
    return CheckpointOptions(heads=num_heads, frames=frames, size=size, normalisation=normalisation)
