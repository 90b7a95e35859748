"""Find out what a checkpoint path is, and read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.huggingface import class_names, load_folder, short_side
from lcve_deploy.exporters.checkpoints.official import load_official
from lcve_deploy.exporters.checkpoints.options import CheckpointOptions
from lcve_deploy.transformer import VideoTransformer

__all__ = ["Checkpoint", "CheckpointOptions", "load_checkpoint"]

_RGB: Final = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A plain model, and what its checkpoint says beside the weights.

    Args:
        path: where it was read from.
        model: the plain model.
        classes: names, in the order of the logits; None where the checkpoint has none.
        short_side: frame size before the crop, pixels; None where the checkpoint does not say.
        notes: assumptions that the owner should see.
    """

    path: Path
    model: VideoTransformer
    classes: tuple[str, ...] | None
    short_side: int | None
    notes: tuple[str, ...] = ()


def load_checkpoint(path: Path, options: CheckpointOptions | None = None) -> Checkpoint:
    """Read an official ``.pth`` file or a Hugging Face folder.

    Raises:
        CheckpointError: damaged, unsafe, incomplete, or silent on what must be known.
        UnsupportedModelError: a model that cannot be exact, or that is not known.
    """
    options = options or CheckpointOptions()
    checkpoint = _load(path, options)
    channels = checkpoint.model.config.geometry.channels
    if channels != _RGB:
        raise UnsupportedModelError(f"clips are RGB, and the model takes {channels} channels")
    return checkpoint


def _load(path: Path, options: CheckpointOptions) -> Checkpoint:
    if path.is_dir():
        model = load_folder(path, options)
        return Checkpoint(path=path, model=model, classes=class_names(path), short_side=short_side(path))
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint at {path}")
    if path.suffix == ".safetensors" or path.name.endswith(".index.json"):
        raise CheckpointError(
            f"{path} has weights and no configuration", hint=f"pass the Hugging Face folder: --ckpt {path.parent}"
        )
    model, assumed = load_official(path, options)
    notes = (f"assumed, as nothing says it: {', '.join(assumed)}",) if assumed else ()
    return Checkpoint(path=path, model=model, classes=None, short_side=None, notes=notes)
