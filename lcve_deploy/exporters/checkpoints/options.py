"""What the owner says about a checkpoint that does not say it itself."""

from __future__ import annotations

from dataclasses import dataclass

from lcve_deploy.transformer import Normalisation

__all__ = ["CheckpointOptions"]


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """Facts that may be missing in a checkpoint; None where nothing was said.

    Args:
        heads: attention heads.
        frames: frames of a clip.
        size: height and width of a clip, pixels.
        normalisation: overrides what the checkpoint's family or processor says.
    """

    heads: int | None = None
    frames: int | None = None
    size: int | None = None
    normalisation: Normalisation | None = None
