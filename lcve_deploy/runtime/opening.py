"""Opening an artifact: its graph, or an engine that was built from it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import (
    EngineKind,
    EngineRecord,
    Manifest,
    ModelSpec,
    PublicKey,
    list_engines,
    read_engine,
    read_manifest,
    verify_files,
)
from lcve_deploy.artifact.engines import FASTEST, check_engine, engine_folder
from lcve_deploy.artifact.names import MODEL, PLAN
from lcve_deploy.errors import ArtifactError, MissingDependencyError, SessionError, UnprovenError
from lcve_deploy.runtime.session import Provider, Session, SessionOptions

__all__ = ["checked_manifest", "open_checked", "open_engine", "open_session"]

_DEFAULTS: Final = SessionOptions()
_NO_PROVIDER_OPTIONS: Final = ("provider", "budget")


def open_session(server: str | os.PathLike[str], options: SessionOptions = _DEFAULTS) -> Session:
    """Open ``server/`` of an artifact, once all files have their digests.

    Args:
        server: the folder with ``manifest.json``.
        options: engine, provider, threads, pin.

    Raises:
        ArtifactError: a manifest that does not hold, files that are not its own, or no such engine.
        SignatureError: a key is pinned, and has not signed the manifest.
        SessionError: the runtime cannot open it, or the engine has not answered the probe on this machine.
        MissingDependencyError: the runtime is not installed.
    """
    folder = Path(server)
    return open_checked(folder, checked_manifest(folder, options.signed_by), options)


def checked_manifest(server: Path, signed_by: PublicKey | None = None) -> Manifest:
    """The manifest of a server folder, once all files that it lists have their digests.

    Raises:
        ArtifactError: a manifest that does not hold, or files that are not its own.
        SignatureError: a key is pinned, and has not signed the manifest.
    """
    manifest = read_manifest(server, signed_by)
    verify_files(server, manifest.files)
    return manifest


def open_checked(server: Path, manifest: Manifest, options: SessionOptions = _DEFAULTS) -> Session:
    """Open a server folder whose manifest the caller has from ``checked_manifest``, under the same pin.

    Raises:
        ArtifactError, SessionError, MissingDependencyError: as of ``open_session``.
    """
    if options.engine is None:
        from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(server / MODEL, manifest.model, options)
    if options.engine == FASTEST:
        return _open_fastest(server, manifest.model, options)
    return _open_proven(server, manifest.model, read_engine(server, options.engine), options)


def open_engine(
    folder: Path, model: ModelSpec, record: EngineRecord, *, server: Path, options: SessionOptions = _DEFAULTS
) -> Session:
    """Open an engine whose files are checked, whether or not it has answered the probe.

    Args:
        folder: with the engine's files; may be staged.
        model: of the artifact.
        record: of the engine.
        server: with the graph, for an engine that has none of its own.
        options: threads and mapping; all else is as the record says.

    Raises:
        SessionError, MissingDependencyError: as of ``open_session``.
    """
    graph = folder / MODEL if MODEL in record.files else server / MODEL
    match record.kind:
        case EngineKind.ONNXRUNTIME:
            from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession

            return OnnxRuntimeSession(graph, model, _options_of(record, options), engine=record)
        case EngineKind.OPENVINO:
            from lcve_deploy.runtime.backends.openvino import OpenVinoSession

            return OpenVinoSession(graph, model, record, threads=options.threads)
        case EngineKind.TENSORRT | EngineKind.TENSORRT_RTX:
            from lcve_deploy.runtime.backends.tensorrt import TensorRTSession

            weights = graph if "stripped" in record.options else None
            return TensorRTSession(folder / PLAN, model, record, weights=weights)


def _options_of(record: EngineRecord, options: SessionOptions) -> SessionOptions:
    """How ONNX Runtime opens an engine: with the provider that it was built for."""
    return SessionOptions(
        provider=Provider.parse(record.options.get("provider", "cpu")),
        provider_options={name: value for name, value in record.options.items() if name not in _NO_PROVIDER_OPTIONS},
        threads=options.threads,
        mapped=options.mapped,
    )


def _open_proven(server: Path, model: ModelSpec, record: EngineRecord, options: SessionOptions) -> Session:
    check_engine(server, record)
    session = open_engine(engine_folder(server, record.name), model, record, server=server, options=options)
    _require_proof(server, record, session)
    return session


def _open_fastest(server: Path, model: ModelSpec, options: SessionOptions) -> Session:
    """The quickest engine that has answered the probe here; proofs of other machines are passed over."""
    records = [read_engine(server, name) for name in list_engines(server)]
    proven = sorted((record.proof.milliseconds, record.name, record) for record in records if record.proof)
    for _, _, record in proven:
        with contextlib.suppress(ArtifactError, SessionError, MissingDependencyError):
            return _open_proven(server, model, record, options)
    raise SessionError(
        f"no engine of {server} has answered the probe on this machine yet",
        hint=f"build one: lcve build {server}, or let those that are there answer: lcve verify {server}",
    )


def _require_proof(server: Path, record: EngineRecord, session: Session) -> None:
    """An engine is offered only where it has answered the probe."""
    proven_on = record.proof.device if record.proof else ""
    if proven_on != session.device:
        state = f"answered the probe on {proven_on}, not here, on {session.device}" if proven_on else "is unproven"
        raise UnprovenError(
            f"the engine {record.name} {state}", hint=f"let it answer: lcve verify {server} --engine {record.name}"
        )
