"""Find out what a checkpoint path is, and read it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lcve_deploy.assumptions import Assumption
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.hub import HubId, cached_source, fetch, require_own_files, snapshot
from lcve_deploy.exporters.checkpoints.huggingface import class_names, load_folder, problem_type
from lcve_deploy.exporters.checkpoints.official import load_official
from lcve_deploy.exporters.checkpoints.options import CheckpointOptions, SaidPreprocessing
from lcve_deploy.files.reading import require_file
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.transformer import VideoTransformer

__all__ = ["Checkpoint", "CheckpointOptions", "load_checkpoint"]

_RGB: Final = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A plain model, and what its checkpoint says in addition to the weights.

    Args:
        path: where it was read from.
        model: the plain model.
        classes: names, in the order of the logits; None where the checkpoint has none.
        problem_type: what it says that the logits are; None where it does not.
        preprocessing: what it says about making clips.
        source: the model and commit on a hub, ``org/name@commit``; None where it came from elsewhere.
        assumptions: what neither it nor the owner said.
    """

    path: Path
    model: VideoTransformer
    classes: tuple[str, ...] | None
    problem_type: ProblemType | None = None
    preprocessing: SaidPreprocessing = field(default_factory=SaidPreprocessing)
    assumptions: tuple[Assumption, ...] = ()
    source: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The assumptions as text, one each."""
        return tuple(map(str, self.assumptions))


def load_checkpoint(path: Path, options: CheckpointOptions | None = None) -> Checkpoint:
    """Read an official ``.pth`` file, a Hugging Face folder, or a model on a hub.

    Args:
        path: of the file or folder; ``org/name`` or ``org/name@revision`` for a model on a hub, where no such path is.
        options: facts that it does not say.

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
        _require_no_official_options(path, options)
        path = snapshot(path)
        require_own_files(path)
        model, said, assumptions = load_folder(path, options)
        return Checkpoint(
            path=path,
            model=model,
            classes=class_names(path, model.config.classes),
            problem_type=problem_type(path),
            preprocessing=said,
            assumptions=assumptions,
            source=cached_source(path),
        )
    if not path.exists():
        hub_id = HubId.parse(str(path))
        if hub_id is None:
            raise CheckpointError(f"there is no checkpoint at {path}")
        folder, source = fetch(hub_id)
        return replace(_load(folder, options), source=source)
    require_file(path, "a checkpoint", CheckpointError)
    if path.suffix == ".safetensors" or path.name.endswith(".index.json"):
        raise CheckpointError(
            f"{path} has weights and no configuration", hint=f"pass the Hugging Face folder: --ckpt {path.parent}"
        )
    model, said, assumptions = load_official(path, options)
    return Checkpoint(path=path, model=model, classes=None, preprocessing=said, assumptions=assumptions)


def _require_no_official_options(path: Path, options: CheckpointOptions) -> None:
    """Refuse options for official files: the config.json of a folder says family and readout."""
    given = {"--family": options.family, "--readout": options.readout, "--weights": options.weights}
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise CheckpointError(
            f"{', '.join(names)}: only for official files, but {path} is a folder, whose config.json says it itself",
            hint="leave these options out for a Hugging Face folder",
        )
