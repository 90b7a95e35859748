"""The ``Session`` protocol, and opening an artifact: its graph, or an engine that was built from it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import (
    EngineKind,
    EngineRecord,
    Manifest,
    Profile,
    PublicKey,
    list_engines,
    read_engine,
    read_manifest,
    verify_files,
)
from lcve_deploy.artifact.engines import FASTEST, check_engine, engine_folder
from lcve_deploy.artifact.manifest import MODEL
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import ArtifactError, MissingDependencyError, SessionError, UnprovenError

__all__ = [
    "FASTEST",
    "PLAN",
    "Opened",
    "Provider",
    "Session",
    "check_clip",
    "checked_manifest",
    "open_engine",
    "open_recorded",
    "open_session",
]

Logits = npt.NDArray[np.float32]

_NO_PROVIDER_OPTIONS: Final = ("provider", "budget")

PLAN: Final = "engine.plan"
"""Name of the file of a TensorRT engine."""


class Provider(StrEnum):
    """Execution providers of ONNX Runtime, by the names that people use for them."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class Session(Protocol):
    """An engine that is ready to run. Threads may share it."""

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""

    @property
    def device(self) -> str:
        """Runtime with its version, and hardware: that for which a proof holds."""

    def run(self, clip: EncryptedClip) -> Logits:
        """Logits of encrypted clips, in the artifact's own label order.

        Args:
            clip: uint8 values ``[batch, N, L]`` or ``[batch, T, H, W, C]``: NumPy, or CuPy for a TensorRT session.

        Returns:
            float32 ``[batch, classes]``.

        Raises:
            MismatchError: the clip was made for another artifact; nothing has run.
            SessionError: the engine failed.
        """


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A session, and the record of its engine; None for the graph itself, which takes batches of any size."""

    session: Session
    engine: EngineRecord | None


def open_session(
    server: str | os.PathLike[str],
    *,
    engine: str | None = None,
    provider: str = "cpu",
    provider_options: Mapping[str, str] | None = None,
    threads: int | None = None,
    signed_by: PublicKey | None = None,
) -> Session:
    """Open ``server/`` of an artifact, once all files have their digests.

    Args:
        server: the folder with ``manifest.json``.
        engine: name of an engine in ``engines/`` that has answered the probe on this machine, or
            ``fastest``; by default the graph itself, in ONNX Runtime.
        provider: of ONNX Runtime, for the graph itself: ``cpu``, ``cuda``, ``tensorrt``, ``tensorrt-rtx``.
        provider_options: as ONNX Runtime documents them.
        threads: threads of one inference on a CPU; by default the runtime's own choice.
        signed_by: the owner's public key, where it is pinned; engines are outside his signature.

    Raises:
        ArtifactError: a manifest that does not hold, files that are not its own, or no such engine.
        SignatureError: a key is pinned, and has not signed the manifest.
        SessionError: the runtime cannot open it, or the engine has not answered the probe on this machine.
        MissingDependencyError: the runtime is not installed.
    """
    return open_recorded(
        server,
        engine=engine,
        provider=provider,
        provider_options=provider_options,
        threads=threads,
        signed_by=signed_by,
    ).session


def open_recorded(
    server: str | os.PathLike[str],
    *,
    engine: str | None = None,
    provider: str = "cpu",
    provider_options: Mapping[str, str] | None = None,
    threads: int | None = None,
    signed_by: PublicKey | None = None,
    mapped: bool = True,
) -> Opened:
    """As :func:`open_session`, with the record of the engine that was opened.

    Args:
        server, engine, provider, provider_options, threads, signed_by: as there.
        mapped: whether ONNX Runtime may map files, which must then not change while the session lives.
    """
    folder = Path(server)
    manifest = checked_manifest(folder, signed_by)
    if engine is None:
        from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession

        session: Session = OnnxRuntimeSession(
            folder / MODEL,
            manifest,
            provider=_provider(provider),
            options=provider_options,
            threads=threads,
            mapped=mapped,
        )
        return Opened(session=session, engine=None)
    if engine == FASTEST:
        return _open_fastest(folder, manifest, threads, mapped)
    return _open_proven(folder, manifest, read_engine(folder, engine), threads, mapped)


def checked_manifest(server: Path, signed_by: PublicKey | None = None) -> Manifest:
    """The manifest of a server folder, once all files that it lists have their digests.

    Raises:
        ArtifactError: a manifest that does not hold, or files that are not its own.
        SignatureError: a key is pinned, and has not signed the manifest.
    """
    manifest = read_manifest(server, signed_by)
    verify_files(server, manifest.files)
    return manifest


def open_engine(
    folder: Path,
    manifest: Manifest,
    record: EngineRecord,
    *,
    server: Path,
    threads: int | None = None,
    mapped: bool = True,
) -> Session:
    """Open an engine whose files are checked, whether or not it has answered the probe.

    Args:
        folder: with the engine's files; may be staged.
        manifest: of the artifact.
        record: of the engine.
        server: with the graph, for an engine that has none of its own.
        threads: threads of one inference on a CPU.
        mapped: as of :func:`open_recorded`.

    Raises:
        SessionError, MissingDependencyError: as of :func:`open_session`.
    """
    graph = folder / MODEL if MODEL in record.files else server / MODEL
    match record.kind:
        case EngineKind.ONNXRUNTIME:
            from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession

            options = {name: value for name, value in record.options.items() if name not in _NO_PROVIDER_OPTIONS}
            provider = _provider(record.options.get("provider", "cpu"))
            return OnnxRuntimeSession(
                graph, manifest, provider=provider, options=options, threads=threads, mapped=mapped
            )
        case EngineKind.OPENVINO:
            from lcve_deploy.runtime.backends.openvino import OpenVinoSession

            return OpenVinoSession(graph, manifest, precision=record.precision, threads=threads)
        case EngineKind.TENSORRT | EngineKind.TENSORRT_RTX:
            from lcve_deploy.runtime.backends.tensorrt import TensorRTSession

            return TensorRTSession(
                folder / PLAN,
                manifest,
                kind=record.kind,
                built_with=record.builder.get(record.kind, ""),
                profile=record.profile or Profile(),
                version_compatible="version_compatible" in record.options,
                weights=graph if "stripped" in record.options else None,
            )


def check_clip(clip: EncryptedClip, manifest: Manifest) -> None:
    """Refuse a clip that was not made for this artifact, before anything runs.

    Raises:
        MismatchError: key id, salt, scheme, geometry or layout differ.
        ValueError: not a batch of uint8 clips.
    """
    manifest.binding.require(clip.binding, here="artifact", there="encrypted clip")
    if clip.values.dtype != np.uint8 or clip.values.ndim != len(manifest.input.shape):
        raise ValueError(
            f"expected uint8 clips with one batch axis, {list(manifest.input.shape)}, received "
            f"{clip.values.dtype} {list(clip.values.shape)}"
        )


def _provider(name: str) -> Provider:
    try:
        return Provider(name)
    except ValueError:
        raise SessionError(f"expected a provider of {', '.join(Provider)}, received {name!r}") from None


def _open_proven(server: Path, manifest: Manifest, record: EngineRecord, threads: int | None, mapped: bool) -> Opened:
    check_engine(server, record)
    folder = engine_folder(server, record.name)
    session = open_engine(folder, manifest, record, server=server, threads=threads, mapped=mapped)
    _require_proof(server, record, session)
    return Opened(session=session, engine=record)


def _open_fastest(server: Path, manifest: Manifest, threads: int | None, mapped: bool) -> Opened:
    """The quickest engine that has answered the probe here; proofs of other machines are passed over."""
    records = [read_engine(server, name) for name in list_engines(server)]
    proven = sorted((record.proof.milliseconds, record.name, record) for record in records if record.proof)
    for _, _, record in proven:
        with contextlib.suppress(ArtifactError, SessionError, MissingDependencyError):
            return _open_proven(server, manifest, record, threads, mapped)
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
