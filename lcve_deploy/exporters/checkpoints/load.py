"""Detect the format of a checkpoint and read it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.class_vectors import ClassVectors, read_class_vectors
from lcve_deploy.exporters.checkpoints.hub import HubId, cached_source, fetch, require_own_files, snapshot
from lcve_deploy.exporters.checkpoints.huggingface import (
    assumed_quantisation,
    class_names,
    load_folder,
    problem_type,
)
from lcve_deploy.exporters.checkpoints.official import load_official
from lcve_deploy.exporters.checkpoints.options import CheckpointOptions, StatedPreprocessing
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice, answering, with_class_vectors
from lcve_deploy.exporters.checkpoints.refusals import require_rgb
from lcve_deploy.exporters.checkpoints.timm import is_timm, load_timm
from lcve_deploy.files.reading import require_file
from lcve_deploy.model.assumptions import Assumption
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.transformer import VideoTransformer

__all__ = ["Checkpoint", "CheckpointOptions", "load_checkpoint"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A plain model and the settings that its checkpoint states.

    Args:
        path: file or folder that it was read from.
        model: the plain model.
        classes: class names in the order of the logits; None if the checkpoint has none.
        problem_type: meaning of the logits; None if the checkpoint does not state it.
        preprocessing: settings that the checkpoint states for making clips.
        assumptions: facts that neither the checkpoint nor the owner states.
        source: model and commit on a hub, ``org/name@commit``; None if it came from elsewhere.
        altered_from: the checkpoint as it was read, if the options change what the model answers.
        class_vectors: vectors that take the place of a classifier; None without them.
    """

    path: Path
    model: VideoTransformer
    classes: tuple[str, ...] | None
    problem_type: ProblemType | None = None
    preprocessing: StatedPreprocessing = field(default_factory=StatedPreprocessing)
    assumptions: tuple[Assumption, ...] = ()
    source: str | None = None
    altered_from: Checkpoint | None = None
    class_vectors: ClassVectors | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The assumptions, each as text."""
        return tuple(map(str, self.assumptions))


def load_checkpoint(path: Path, options: CheckpointOptions | None = None) -> Checkpoint:
    """Read an official ``.pth`` file, a Hugging Face folder, or a model on a hub.

    Args:
        path: file or folder; if it does not exist, ``org/name`` or ``org/name@revision`` names a model on a hub.
        options: facts that the checkpoint may not state.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, unsafe or incomplete, or a required fact is not stated.
        MissingDependencyError: the model is on a hub, and ``huggingface_hub`` is not installed.
        UnsupportedModelError: the model is unknown, or cannot be exported exactly.
    """
    options = options or CheckpointOptions()
    checkpoint = _load(path, options)
    require_rgb(checkpoint.model.config.geometry.channels)
    return _with_output(checkpoint, options)


def _with_output(checkpoint: Checkpoint, options: CheckpointOptions) -> Checkpoint:
    """Return the checkpoint with the answer that the options ask for."""
    choice, path = options.output, options.class_vectors
    if path is None:
        model = checkpoint.model if choice is None else answering(checkpoint.model, choice)
        if model.config == checkpoint.model.config:
            return checkpoint
        return replace(checkpoint, model=model, classes=None, problem_type=None, altered_from=checkpoint)
    vectors = read_class_vectors(path)
    base = OutputChoice.TOKENS if choice is OutputChoice.TOKENS else OutputChoice.FEATURES
    model = answering(checkpoint.model, base, width=vectors.weight.shape[1])
    return replace(
        checkpoint,
        model=with_class_vectors(model, vectors),
        classes=vectors.names,
        problem_type=vectors.problem_type,
        altered_from=checkpoint,
        class_vectors=vectors,
    )


def _load(path: Path, options: CheckpointOptions) -> Checkpoint:
    if path.is_dir():
        _require_no_official_options(path, options)
        path = snapshot(path)
        require_own_files(path)
        model, stated, assumptions = (load_timm if is_timm(path) else load_folder)(path, options)
        return Checkpoint(
            path=path,
            model=model,
            classes=class_names(path, model.config.classes),
            problem_type=problem_type(path),
            preprocessing=stated,
            assumptions=(*assumptions, *assumed_quantisation(path)),
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
            f"{path} has weights but no configuration", hint=f"pass the Hugging Face folder: --ckpt {path.parent}"
        )
    model, stated, assumptions = load_official(path, options)
    return Checkpoint(path=path, model=model, classes=None, preprocessing=stated, assumptions=assumptions)


def _require_no_official_options(path: Path, options: CheckpointOptions) -> None:
    """Reject options for official files: the config.json of a folder already states family and readout."""
    given = {"--family": options.family, "--readout": options.readout, "--weights": options.weights}
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise CheckpointError(
            f"{', '.join(names)}: only for official files, but {path} is a folder, whose config.json states them",
            hint="leave these options out for a Hugging Face folder",
        )
