"""A model folder for Triton: ``config.pbtxt``, a version folder with the model, and warm-up data.

The version folder of a graph is a complete server folder, so that it can be verified in place. The version folder of
a TensorRT engine contains the plan, its record and the manifest, whose digests identify the plan.

Source: Triton's documentation of the model repository and of the model configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact import (
    EngineKind,
    EngineRecord,
    Manifest,
    Profile,
    PublicKey,
    copy_files,
    manifest_data,
    parse_manifest,
    read_engine,
    read_probe,
    read_signature,
    verify_files,
    write_signature,
)
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.artifact.engine_mac import require_own
from lcve_deploy.artifact.engine_secret import read_secret
from lcve_deploy.artifact.engines import check_engine, engine_folder, write_engine
from lcve_deploy.artifact.graph_files import read_graph
from lcve_deploy.artifact.names import MODEL, PROBE
from lcve_deploy.artifact.names import PLAN as PLAN_FILE
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.protocol.config import FILES, ONNX, PLAN, Scheduling, model_config
from lcve_deploy.protocol.stubs import config_messages

__all__ = ["CONFIG", "TritonModel", "TritonOptions", "read_config", "read_model", "write_model", "write_version"]

CONFIG: Final = "config.pbtxt"

_WARMUP: Final = "warmup"
_SAMPLE: Final = "probe"
_MAX_BATCH: Final = 8


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """How Triton serves a model.

    Args:
        engine: name of a TensorRT engine of the server folder; by default the graph is served.
        version: version of the model, which is the name of its folder.
        max_batch: maximum clips per batch; by default 8, or the maximum of the engine's profile.
        queue_delay: seconds that a clip may wait for others to fill a batch.
        preferred_batches: batch sizes that run without waiting.
        max_queue: maximum waiting requests; 0 for no limit.
        queue_timeout: seconds that a request may wait before it is refused; 0 for no limit.
        instances: concurrent instances on each device.
        gpu: whether a graph runs on GPUs; an engine always does.
        versions: how many of the newest versions are served; 0 for all.
    """

    engine: str | None = None
    version: int = 1
    max_batch: int | None = None
    queue_delay: float = 0.002
    preferred_batches: tuple[int, ...] = ()
    max_queue: int = 0
    queue_timeout: float = 0.0
    instances: int = 1
    gpu: bool = False
    versions: int = 1


@dataclass(frozen=True, kw_only=True)
class TritonModel:
    """A model that has been checked and is ready to be written.

    Args:
        server: server folder of the model.
        manifest_data: bytes of its manifest, read once.
        manifest: the parsed manifest.
        engine: record of the engine; None if the graph is served.
        config: ``ModelConfig`` (protobuf).
        version: version of the model.
    """

    server: Path
    manifest_data: bytes
    manifest: Manifest
    engine: EngineRecord | None
    config: Any
    version: int


def read_model(name: str, server: Path, options: TritonOptions, *, signed_by: PublicKey | None = None) -> TritonModel:
    """Check a server folder and return its model with the configuration, without writing anything.

    Only the digest of the probe is checked here; those of the other files are checked when they are copied.

    Raises:
        ArtifactError: an invalid manifest or engine, or an engine or option that Triton cannot serve.
        SignatureError: the manifest is not signed by the pinned key.
        SessionError: the engine was built from another model, or was not made on this machine.
        MissingDependencyError: tritonclient is not installed.
    """
    data = manifest_data(server, signed_by)
    manifest = parse_manifest(data, server / MANIFEST)
    verify_files(server, manifest.files, read=(PROBE,))
    engine = _read_engine(server, options.engine)
    max_batch, preferred = _batch_sizes(options, engine)
    scheduling = Scheduling(
        max_batch=max_batch,
        queue_delay=options.queue_delay,
        preferred_batches=preferred,
        max_queue=options.max_queue,
        queue_timeout=options.queue_timeout,
        instances=options.instances,
        gpu=options.gpu or engine is not None,
        versions=options.versions,
    )
    config = model_config(manifest.model, scheduling, name=name, platform=PLAN if engine else ONNX)
    _add_warmup(config, {1, *preferred, max_batch})
    return TritonModel(
        server=server, manifest_data=data, manifest=manifest, engine=engine, config=config, version=options.version
    )


def write_model(folder: Path, model: TritonModel) -> None:
    """Write the files of a staged model folder.

    Raises:
        ArtifactError: files of the server folder or engine have changed, or the configuration differs when it is read
            back.
    """
    from google.protobuf import text_format

    (folder / CONFIG).write_text(text_format.MessageToString(model.config), encoding="utf-8")
    if read_config(folder) != model.config:
        raise ArtifactError(f"{folder / CONFIG} differs from what was written when it is read back")
    (folder / _WARMUP).mkdir()
    clip = read_probe(model.server, model.manifest).clip[0]
    (folder / _WARMUP / _SAMPLE).write_bytes(clip.tobytes())
    version = folder / str(model.version)
    version.mkdir()
    write_version(version, model)


def write_version(folder: Path, model: TritonModel) -> None:
    """Write the files of a staged version folder.

    Raises:
        ArtifactError: files of the server folder or engine have changed.
    """
    (folder / MANIFEST).write_bytes(model.manifest_data)
    write_signature(folder, read_signature(model.server))
    if model.engine is None:
        copy_files(model.server, folder, model.manifest.files)
        read_graph(folder / MODEL, model.manifest.files)  # Triton itself opens the files that the graph names
        return
    copy_files(engine_folder(model.server, model.engine.name), folder, model.engine.files)
    (folder / PLAN_FILE).rename(folder / FILES[PLAN])
    write_engine(folder, model.engine)


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


def _read_engine(server: Path, name: str | None) -> EngineRecord | None:
    if name is None:
        return None
    record = read_engine(server, name)
    if record.kind is not EngineKind.TENSORRT:
        raise ArtifactError(
            f"Triton runs TensorRT plans, but the engine {name} is for {record.kind}",
            hint="leave out --engine to run the graph in ONNX Runtime",
        )
    if "stripped" in record.options:
        raise ArtifactError(
            f"the plan of {name} contains no weights, and Triton does not restore them",
            hint=f"create a plan with weights: lcve build {server} --refit {name}",
        )
    require_own(server, record, read_secret())
    check_engine(server, record)
    return record


def _batch_sizes(options: TritonOptions, engine: EngineRecord | None) -> tuple[int, tuple[int, ...]]:
    """Return the maximum batch size, and the preferred ones in order."""
    if engine is None:
        max_batch, preferred = options.max_batch or _MAX_BATCH, options.preferred_batches
    else:
        profile = engine.profile or Profile()
        max_batch = options.max_batch or profile.maximum
        if profile.minimum > 1 or max_batch > profile.maximum:
            raise ArtifactError(f"expected batches of 1 to {max_batch}, but the engine {engine.name} is for {profile}")
        preferred = options.preferred_batches or ((profile.optimum,) if 1 < profile.optimum <= max_batch else ())
    if too_large := [size for size in preferred if size > max_batch]:
        raise ArtifactError(f"preferred batch sizes {too_large} exceed the maximum, {max_batch}")
    return max_batch, tuple(sorted(set(preferred)))


def _add_warmup(config: Any, batches: set[int]) -> None:
    """Make every instance run the probe in these batch sizes before it is ready."""
    (clips,) = config.input
    for size in sorted(batches):
        sample = config.model_warmup.add(name=f"{_SAMPLE}, batch of {size}", batch_size=size)
        tensor = sample.inputs[clips.name]
        tensor.data_type = clips.data_type
        tensor.dims.extend(clips.dims)
        tensor.input_data_file = _SAMPLE
