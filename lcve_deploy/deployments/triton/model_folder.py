"""A model folder for Triton: ``config.pbtxt``, a version with the model, and what warms it up.

The version folder of a graph is a whole server folder, so that it can be verified where it lies. That of a TensorRT
engine has the plan, its record and the manifest: their digests say what it is.

Source: Triton's documents on the model repository and on the model configuration.
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
from lcve_deploy.protocol.config import FILES, ONNX, PLAN, model_config
from lcve_deploy.protocol.stubs import config_messages

__all__ = ["CONFIG", "TritonModel", "TritonOptions", "read_config", "read_model", "write_model", "write_version"]

CONFIG: Final = "config.pbtxt"

_WARMUP: Final = "warmup"
_SAMPLE: Final = "probe"
_MAX_BATCH: Final = 8


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """How Triton is to serve a model; numbers as of ``lcve_deploy.protocol.config.model_config``.

    Args:
        engine: a TensorRT engine of the server folder; by default its graph.
        version: of the model, the name of its folder.
        largest_batch: clips of one run; by default 8, or what the engine was built for.
        delay: seconds that a clip may wait for others to share its run.
        preferred: batch sizes that are run at once.
        waiting: requests that may wait; 0 for any number.
        timeout: seconds that a request may wait before it is refused; 0 for any time.
        instances: that run side by side on each device.
        gpu: whether a graph runs on GPUs; an engine always does.
        versions: of the newest, how many are served; 0 for all.
    """

    engine: str | None = None
    version: int = 1
    largest_batch: int | None = None
    delay: float = 0.002
    preferred: tuple[int, ...] = ()
    waiting: int = 0
    timeout: float = 0.0
    instances: int = 1
    gpu: bool = False
    versions: int = 1


@dataclass(frozen=True, kw_only=True)
class TritonModel:
    """A model that has been checked, and can be written.

    Args:
        server: folder that it comes from.
        manifest_data: the bytes of the manifest there, as they were read once.
        manifest: what they say.
        engine: record of the engine; None where the graph is served.
        config: ``ModelConfig`` (protobuf).
        version: of the model.
    """

    server: Path
    manifest_data: bytes
    manifest: Manifest
    engine: EngineRecord | None
    config: Any
    version: int


def read_model(name: str, server: Path, options: TritonOptions, *, signed_by: PublicKey | None = None) -> TritonModel:
    """Check a server folder, and make the configuration; nothing is written.

    Digests of the other files than the probe are checked as they are copied.

    Raises:
        ArtifactError: an invalid manifest or engine, or an engine or option that Triton cannot serve.
        SignatureError: a key is pinned, and has not signed the manifest.
        SessionError: the engine was built from another model, or was not made on this machine.
        MissingDependencyError: tritonclient is not installed.
    """
    data = manifest_data(server, signed_by)
    manifest = parse_manifest(data, server / MANIFEST)
    verify_files(server, manifest.files, read=(PROBE,))
    engine = _read_engine(server, options.engine)
    largest, preferred = _batches(options, engine)
    config = model_config(
        manifest.model,
        name=name,
        platform=PLAN if engine else ONNX,
        largest_batch=largest,
        delay=options.delay,
        preferred=preferred,
        waiting=options.waiting,
        timeout=options.timeout,
        instances=options.instances,
        gpu=options.gpu or engine is not None,
        versions=options.versions,
    )
    _add_warmup(config, {1, *preferred, largest})
    return TritonModel(
        server=server, manifest_data=data, manifest=manifest, engine=engine, config=config, version=options.version
    )


def write_model(folder: Path, model: TritonModel) -> None:
    """Fill a model folder that is being staged.

    Raises:
        ArtifactError: files of the server folder or engine that have changed, or a configuration that does not read
            back as it was meant.
    """
    from google.protobuf import text_format

    (folder / CONFIG).write_text(text_format.MessageToString(model.config), encoding="utf-8")
    if read_config(folder) != model.config:
        raise ArtifactError(f"{folder / CONFIG} does not read back as it was written")
    (folder / _WARMUP).mkdir()
    clip = read_probe(model.server, model.manifest).clip[0]
    (folder / _WARMUP / _SAMPLE).write_bytes(clip.tobytes())
    version = folder / str(model.version)
    version.mkdir()
    write_version(version, model)


def write_version(folder: Path, model: TritonModel) -> None:
    """Fill a version folder that is being staged.

    Raises:
        ArtifactError: files of the server folder or engine that have changed.
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
    """``config.pbtxt`` of a model folder, as ``ModelConfig``.

    Raises:
        ArtifactError: there is none, or it cannot be read.
    """
    from google.protobuf import text_format

    try:
        text = read_bounded(folder / CONFIG, "a model configuration", ArtifactError).decode()
        return text_format.Parse(text, config_messages().ModelConfig())
    except (OSError, UnicodeDecodeError, RecursionError, text_format.ParseError) as error:
        raise ArtifactError(f"{folder / CONFIG} is no model configuration: {error}") from None


def _read_engine(server: Path, name: str | None) -> EngineRecord | None:
    if name is None:
        return None
    record = read_engine(server, name)
    if record.kind is not EngineKind.TENSORRT:
        raise ArtifactError(
            f"Triton runs plans of TensorRT, and {name} is an engine of {record.kind}",
            hint="leave --engine out: Triton then runs the graph in ONNX Runtime",
        )
    if "stripped" in record.options:
        raise ArtifactError(
            f"the plan of {name} has no weights in it, and Triton does not put them back",
            hint=f"make one with weights: lcve build {server} --refit {name}",
        )
    require_own(server, record, read_secret())
    check_engine(server, record)
    return record


def _batches(options: TritonOptions, engine: EngineRecord | None) -> tuple[int, tuple[int, ...]]:
    """The largest batch and those that are preferred."""
    if engine is None:
        largest, preferred = options.largest_batch or _MAX_BATCH, options.preferred
    else:
        profile = engine.profile or Profile()
        largest = options.largest_batch or profile.maximum
        if profile.minimum > 1 or largest > profile.maximum:
            raise ArtifactError(f"expected batches of 1 to {largest}, and the engine {engine.name} is for {profile}")
        preferred = options.preferred or ((profile.optimum,) if 1 < profile.optimum <= largest else ())
    if beyond := [size for size in preferred if size > largest]:
        raise ArtifactError(f"preferred batches of {beyond} clips are above the largest, {largest}")
    return largest, tuple(sorted(set(preferred)))


def _add_warmup(config: Any, batches: set[int]) -> None:
    """Have every instance run the probe, in every batch size that is named, before it is ready."""
    (clips,) = config.input
    for size in sorted(batches):
        sample = config.model_warmup.add(name=f"{_SAMPLE}, batch of {size}", batch_size=size)
        tensor = sample.inputs[clips.name]
        tensor.data_type = clips.data_type
        tensor.dims.extend(clips.dims)
        tensor.input_data_file = _SAMPLE
