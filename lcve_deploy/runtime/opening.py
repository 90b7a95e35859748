"""Open an artifact: its graph, or an engine built from it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import (
    EngineKind,
    EngineRecord,
    Manifest,
    PublicKey,
    list_engines,
    read_engine,
    read_manifest,
    read_probe,
    verify_files,
)
from lcve_deploy.artifact.engine_mac import require_own
from lcve_deploy.artifact.engine_options import BUDGET, DEVICE, PROVIDER, TF32, allows_tf32
from lcve_deploy.artifact.engine_secret import EngineSecret, read_secret
from lcve_deploy.artifact.engines import FASTEST, check_engine, engine_folder, require_built_from
from lcve_deploy.artifact.graph_files import GraphFiles, read_graph
from lcve_deploy.artifact.names import MODEL, PLAN
from lcve_deploy.errors import ArtifactError, MissingDependencyError, ParityError, SessionError, UnprovenError
from lcve_deploy.runtime.key_folders import KeyFolders
from lcve_deploy.runtime.probing import probe_model
from lcve_deploy.runtime.session import Provider, Session, SessionOptions

__all__ = [
    "EngineWarning",
    "checked_manifest",
    "open_checked",
    "open_engine",
    "open_server",
    "open_session",
    "read_own_engine",
]

PassedOver = Callable[[str, str], None]

_DEFAULTS: Final = SessionOptions()


class EngineWarning(UserWarning):
    """An engine that was passed over in a choice of the fastest, and why."""


def _warn(name: str, reason: str) -> None:
    warnings.warn(f"passed over the engine {name}: {reason}", EngineWarning, stacklevel=2)


def open_session(server: str | os.PathLike[str], options: SessionOptions = _DEFAULTS) -> Session:
    """Open ``server/`` of an artifact after checking the digests of all files of the model.

    Key folders are found at opening. The tensors of a key are read and checked when a clip needs them.

    Args:
        server: the folder with ``manifest.json``.
        options: engine, provider, threads, pinned key.

    Raises:
        ArtifactError: the manifest is invalid, files do not match it, or there is no such engine.
        SignatureError: the pinned key has not signed the manifest.
        ParityError: the graph fails the probe on a provider other than the CPU.
        SessionError: the runtime cannot open it, or the engine has not answered the probe on this machine, or was not
            made on it (``ForeignEngineError``).
        MissingDependencyError: the runtime is not installed.
    """
    return open_server(Path(server), options)[1]


def open_server(
    server: Path, options: SessionOptions = _DEFAULTS, *, passed_over: PassedOver | None = None
) -> tuple[Manifest, Session]:
    """Open a server folder as ``open_session`` does, and return its manifest too.

    The bytes that a runtime is given are those whose digests were checked: each file of the graph is read once. A
    folder that is replaced during that gives the old model or an error, never parts of both.

    Args:
        server: the folder with ``manifest.json``.
        options: as for ``open_session``.
        passed_over: as for ``open_checked``.

    Raises:
        ArtifactError, SignatureError, ParityError, SessionError, MissingDependencyError: as for ``open_session``.
    """
    if options.engine is not None:
        manifest = checked_manifest(server, options.signed_by)
        return manifest, open_checked(server, manifest, options, passed_over=passed_over or _warn)
    manifest = read_manifest(server, options.signed_by)
    graph = read_graph(server / MODEL, manifest.files, mapped=options.mapped)
    verify_files(server, manifest.files, read=set(manifest.files) - graph.names)
    return manifest, _open_graph(server, graph, manifest, options)


def checked_manifest(server: Path, signed_by: PublicKey | None = None) -> Manifest:
    """Read the manifest of a server folder and check the digests of all files that it lists.

    Raises:
        ArtifactError: the manifest is invalid, or files do not match it.
        SignatureError: the pinned key has not signed the manifest.
    """
    manifest = read_manifest(server, signed_by)
    verify_files(server, manifest.files)
    return manifest


def open_checked(
    server: Path, manifest: Manifest, options: SessionOptions = _DEFAULTS, *, passed_over: PassedOver = _warn
) -> Session:
    """Open a server folder whose manifest came from ``checked_manifest`` with the same pinned key.

    Args:
        server: the folder with ``manifest.json``.
        manifest: of the folder.
        options: as for ``open_session``.
        passed_over: called with name and reason for each engine that cannot take part in a choice of the fastest; by
            default it warns.

    Raises:
        ArtifactError, ParityError, SessionError, MissingDependencyError: as for ``open_session``.
    """
    if options.engine is None:
        graph = read_graph(server / MODEL, manifest.files, mapped=options.mapped)
        return _open_graph(server, graph, manifest, options)
    if options.engine == FASTEST:
        return _open_fastest(server, manifest, options, passed_over)
    record = _authenticated(server, options.engine, read_secret(options.engine_secret))
    return _open_proven(server, manifest, record, options)


def _open_graph(server: Path, graph: GraphFiles, manifest: Manifest, options: SessionOptions) -> Session:
    """Open the artifact's own graph. On any provider but the CPU, it must pass the probe first.

    The export has compared the graph with the reference on a CPU. A provider for GPUs computes with other kernels, and
    may do so in a lower precision.
    """
    from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession

    folders = KeyFolders(server, manifest, options.signed_by)
    session = OnnxRuntimeSession(graph, manifest.model, options, folders=folders)
    if options.provider is not Provider.CPU:
        _require_probe(server, manifest, session, options)
    return session


def _require_probe(server: Path, manifest: Manifest, session: Session, options: SessionOptions) -> None:
    report = probe_model(session, read_probe(server, manifest), manifest.parity)
    if report.ok:
        return
    asked = allows_tf32(options.provider_options)
    raise ParityError(
        f"the graph of {server} fails the probe on {session.device}: max |Δlogit| {report.max_difference:.3g}, "
        f"tolerance {report.tolerance:.3g}",
        hint=f"{TF32} lowers the precision. Leave it out, or build an engine with a budget: lcve build {server} "
        f"--provider {options.provider} --provider-option {TF32}=1 --budget FLOAT"
        if asked
        else "do not serve it; try another provider, or another version of the runtime or the driver",
    )


def read_own_engine(server: Path, name: str, engine_secret: Path | None = None) -> EngineRecord:
    """Read the record of an engine, and check that this machine has made it and that its files are its own.

    Args:
        server: the folder with ``manifest.json``.
        name: engine name.
        engine_secret: file with this machine's secret; by default as of ``SessionOptions``.

    Raises:
        ArtifactError: there is no such engine, its record is invalid, or its files differ.
        ForeignEngineError: this machine has not made it; no runtime has read it.
        SessionError: it was built from another model, or the secret's file is invalid.
    """
    record = _authenticated(server, name, read_secret(engine_secret))
    check_engine(server, record)
    return record


def _authenticated(server: Path, name: str, secret: EngineSecret | None) -> EngineRecord:
    record = read_engine(server, name)
    require_own(server, record, secret)
    return record


def open_engine(
    folder: Path, manifest: Manifest, record: EngineRecord, *, server: Path, options: SessionOptions = _DEFAULTS
) -> Session:
    """Open an engine of ``read_own_engine``, or one that is being built, whether or not it is proven on this machine.

    Args:
        folder: folder with the engine's files; may be staged.
        manifest: of the artifact, as it was read and checked.
        record: record of the engine.
        server: folder with the graph, for an engine that has none of its own.
        options: GPU, threads, mapping, keys in memory and the pinned key; all else follows the record.

    Raises:
        SessionError, MissingDependencyError: as for ``open_session``.
    """
    require_built_from(server, record, manifest.digest)
    _require_place(record, options)
    folders = KeyFolders(server, manifest, options.signed_by)
    own = MODEL in record.files
    place, files = (folder / MODEL, record.files) if own else (server / MODEL, manifest.files)
    match record.kind:
        case EngineKind.ONNXRUNTIME:
            from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession

            graph = read_graph(place, files, mapped=options.mapped)
            ours = _options_of(record, options)
            return OnnxRuntimeSession(graph, manifest.model, ours, engine=record, folders=folders)
        case EngineKind.OPENVINO:
            from lcve_deploy.runtime.backends.openvino import OpenVinoSession

            graph = read_graph(place, files, mapped=options.mapped)
            return OpenVinoSession(graph, manifest.model, record, options, folders=folders)
        case EngineKind.TENSORRT | EngineKind.TENSORRT_RTX:
            from lcve_deploy.runtime.backends.tensorrt import TensorRTSession

            weights = read_graph(place, files) if "stripped" in record.options else None
            return TensorRTSession(folder / PLAN, manifest.model, record, options, weights=weights, folders=folders)


def _require_place(record: EngineRecord, options: SessionOptions) -> None:
    on_cpu = {EngineKind.OPENVINO: True, EngineKind.ONNXRUNTIME: record.options.get(PROVIDER, "cpu") == Provider.CPU}
    if options.device is not None and on_cpu.get(record.kind, False):
        raise SessionError(
            f"the engine {record.name} runs on the CPU, received GPU {options.device} for it",
            hint="leave the GPU out, or choose an engine that was built for one",
        )


def _options_of(record: EngineRecord, options: SessionOptions) -> SessionOptions:
    """Return options that open an engine in ONNX Runtime with the provider it was built for."""
    ours = (BUDGET, PROVIDER) if options.device is None else (BUDGET, PROVIDER, DEVICE)
    return SessionOptions(
        provider=Provider.parse(record.options.get(PROVIDER, "cpu")),
        provider_options={name: value for name, value in record.options.items() if name not in ours},
        device=options.device,
        threads=options.threads,
        mapped=options.mapped,
        max_keys=options.max_keys,
    )


def _open_proven(server: Path, manifest: Manifest, record: EngineRecord, options: SessionOptions) -> Session:
    check_engine(server, record)
    session = open_engine(engine_folder(server, record.name), manifest, record, server=server, options=options)
    _require_proof(server, record, session)
    return session


def _open_fastest(server: Path, manifest: Manifest, options: SessionOptions, passed_over: PassedOver) -> Session:
    """Open the fastest engine that this machine has made and proven; say which ones are passed over, and why."""
    secret, records = read_secret(options.engine_secret), []
    for name in list_engines(server):
        try:
            records.append(_authenticated(server, name, secret))
        except (ArtifactError, SessionError) as error:
            passed_over(name, str(error))
    proven = sorted((record.proof.milliseconds, record.name, record) for record in records if record.proof)
    for _, name, record in proven:
        try:
            return _open_proven(server, manifest, record, options)
        except (ArtifactError, SessionError, MissingDependencyError) as error:
            passed_over(name, str(error))
    raise SessionError(
        f"no engine in {server} has passed the probe on this machine yet",
        hint=f"build one: lcve build {server}, or prove those of this machine: lcve verify {server}",
    )


def _require_proof(server: Path, record: EngineRecord, session: Session) -> None:
    """Refuse an engine that has not passed the probe on this machine."""
    proven_on = record.proof.device if record.proof else ""
    if proven_on != session.device:
        state = f"passed the probe on {proven_on}, but not on {session.device}" if proven_on else "is unproven"
        raise UnprovenError(
            f"the engine {record.name} {state}", hint=f"prove it: lcve verify {server} --engine {record.name}"
        )
