"""A model folder for Triton: ``config.pbtxt``, a version folder with the graph of one key, and warm-up data.

Triton's own backends cannot hold the tensors of several keys. So every key of a model becomes a model of Triton, whose
graph has the tensors of this key inside, and whose configuration contains its binding.

Source: Triton's documentation of the model repository and of the model configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact import KeyFolder, Manifest, PublicKey
from lcve_deploy.artifact.names import MODEL
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.protocol.config import ONNX, Scheduling, model_config
from lcve_deploy.protocol.stubs import config_messages
from lcve_deploy.verbs.embed import embed

__all__ = ["CONFIG", "TritonModel", "TritonOptions", "make_model", "read_config", "write_model", "write_version"]

CONFIG: Final = "config.pbtxt"

_WARMUP: Final = "warmup"
_SAMPLE: Final = "probe"


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """How Triton serves the keys of a model.

    Args:
        keys: names of the key folders to use; by default all.
        version: version of each model, which is the name of its folder.
        max_batch: maximum clips per batch.
        queue_delay: seconds that a clip may wait for others to fill a batch.
        preferred_batches: batch sizes that run without waiting.
        max_queue: maximum waiting requests; 0 for no limit.
        queue_timeout: seconds that a request may wait before it is refused; 0 for no limit.
        instances: concurrent instances on each device.
        gpu: whether the graph runs on GPUs.
        versions: how many of the newest versions are served; 0 for all.

    Raises:
        ArtifactError: a preferred batch size exceeds the maximum.
    """

    keys: tuple[str, ...] = ()
    version: int = 1
    max_batch: int = 8
    queue_delay: float = 0.002
    preferred_batches: tuple[int, ...] = ()
    max_queue: int = 0
    queue_timeout: float = 0.0
    instances: int = 1
    gpu: bool = False
    versions: int = 1

    def __post_init__(self) -> None:
        if too_large := [size for size in self.preferred_batches if size > self.max_batch]:
            raise ArtifactError(f"preferred batch sizes {too_large} exceed the maximum, {self.max_batch}")

    def scheduling(self) -> Scheduling:
        """Return how a server batches, queues and runs the requests of each model."""
        return Scheduling(
            max_batch=self.max_batch,
            queue_delay=self.queue_delay,
            preferred_batches=tuple(sorted(set(self.preferred_batches))),
            max_queue=self.max_queue,
            queue_timeout=self.queue_timeout,
            instances=self.instances,
            gpu=self.gpu,
            versions=self.versions,
        )


@dataclass(frozen=True, kw_only=True)
class TritonModel:
    """A key of a model that is ready to be written.

    Args:
        server: model folder.
        key: key folder, whose manifest has been checked for the model.
        signed_by: the owner's public key, if pinned.
        config: ``ModelConfig`` (protobuf).
        version: version of the model.
    """

    server: Path
    key: KeyFolder
    signed_by: PublicKey | None
    config: Any
    version: int


def make_model(
    name: str, server: Path, manifest: Manifest, key: KeyFolder, options: TritonOptions, signed_by: PublicKey | None
) -> TritonModel:
    """Return a model with its configuration, without writing anything.

    Args:
        name: name in Triton.
        server: model folder.
        manifest: manifest of the model.
        key: key folder of the model.
        options: how it is served.
        signed_by: the owner's public key, if pinned.

    Raises:
        MissingDependencyError: tritonclient is not installed.
    """
    scheduling = options.scheduling()
    config = model_config(manifest.model, scheduling, name=name, platform=ONNX, key=key.manifest.binding.key)
    _add_warmup(config, {1, *scheduling.preferred_batches, scheduling.max_batch})
    return TritonModel(server=server, key=key, signed_by=signed_by, config=config, version=options.version)


def write_model(folder: Path, model: TritonModel) -> None:
    """Write the files of a staged model folder.

    Raises:
        ArtifactError: files of the model or key folder have changed, or the configuration differs when it is read back.
        ParityError: the graph fails the probe of the key.
    """
    from google.protobuf import text_format

    (folder / CONFIG).write_text(text_format.MessageToString(model.config), encoding="utf-8")
    if read_config(folder) != model.config:
        raise ArtifactError(f"{folder / CONFIG} differs from what was written when it is read back")
    (folder / _WARMUP).mkdir()
    (folder / _WARMUP / _SAMPLE).write_bytes(model.key.probe().clip[0].tobytes())
    version = folder / str(model.version)
    version.mkdir()
    write_version(version, model)


def write_version(folder: Path, model: TritonModel) -> None:
    """Write the graph into a staged version folder. It has answered the probe of its key.

    Raises:
        ArtifactError: files of the model or key folder have changed.
        ParityError: the graph fails the probe of the key.
    """
    embed(model.server, model.key.folder, folder / MODEL, signed_by=model.signed_by)


def read_config(folder: Path) -> Any:
    """Read ``config.pbtxt`` of a model folder as ``ModelConfig``.

    Raises:
        ArtifactError: the file is missing or cannot be parsed.
    """
    from google.protobuf import text_format

    try:
        text = read_bounded(folder / CONFIG, "a model configuration", ArtifactError).decode()
        return text_format.Parse(text, config_messages().ModelConfig())
    except (OSError, UnicodeDecodeError, RecursionError, text_format.ParseError) as error:
        raise ArtifactError(f"{folder / CONFIG} is not a valid model configuration: {error}") from None


def _add_warmup(config: Any, batches: set[int]) -> None:
    """Make every instance run the probe in these batch sizes before it is ready."""
    (clips,) = config.input
    for size in sorted(batches):
        sample = config.model_warmup.add(name=f"{_SAMPLE}, batch of {size}", batch_size=size)
        tensor = sample.inputs[clips.name]
        tensor.data_type = clips.data_type
        tensor.dims.extend(clips.dims)
        tensor.input_data_file = _SAMPLE
