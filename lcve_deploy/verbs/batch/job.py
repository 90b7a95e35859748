"""The job of a batch, the same for all of its workers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lcve_deploy.artifact import ClientSettings, read_client
from lcve_deploy.client import Client
from lcve_deploy.clips import Views
from lcve_deploy.errors import MismatchError
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.output import OutputKind
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.packing import require_pad
from lcve_deploy.remote import RemoteOptions
from lcve_deploy.runtime import SessionOptions
from lcve_deploy.verbs.batch.videos import Video
from lcve_deploy.verbs.enroll import KEY_FILE
from lcve_deploy.verbs.pairs import read_sides, require_artifact

__all__ = ["Job"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Options and absolute paths that every worker receives. All machines need access to the paths. Has no secrets.

    Args:
        key_file: path of the key file; every worker reads it. None with ``enrolled``.
        enrolled: folder with a folder for each camera, which has ``key.bin`` and ``client/``; every video then belongs
            to a camera. Instead of a key file.
        artifact: folder with ``server/`` and ``client/``; None with ``client``, or with ``enrolled`` and no model here.
        client: folder with ``client.json``, instead of an artifact.
        encrypt_only: write encrypted clips, and run no model.
        server: address of a model on a server that runs the clips; with ``client``.
        remote: how to connect to the server. With ``encrypt_only``, only its ``seal_to`` and ``pad`` are used: the key
            to seal clips to, and their padding.
        views: temporal and spatial views of every video.
        sampling: how frames are chosen; by default as the artifact says.
        stride: frames from one sampled frame to the next; by default as the artifact says.
        step: quantisation step of clips, only for the scheme ``lcve-dct-1``; by default 16.
        top: classes in every row.
        logits: add the model's output, in the plain order.
        session: how to open the artifact; the threads of each worker come from the cluster instead.

    Raises:
        ValueError: not exactly one of key file and folder of cameras; not exactly one of artifact and client folder, or
            a client folder with a folder of cameras; neither an artifact nor ``server`` nor ``encrypt_only``; or
            ``server`` with an artifact or ``encrypt_only``.
    """

    key_file: Path | None = None
    enrolled: Path | None = None
    artifact: Path | None = None
    client: Path | None = None
    encrypt_only: bool = False
    server: str | None = None
    remote: RemoteOptions = field(default_factory=RemoteOptions)
    views: Views = field(default_factory=Views)
    sampling: Sampling | None = None
    stride: int | None = None
    step: float | None = None
    top: int = 5
    logits: bool = False
    session: SessionOptions = field(default_factory=SessionOptions)

    def __post_init__(self) -> None:
        if (self.key_file is None) == (self.enrolled is None):
            raise ValueError("expected a key file or a folder of cameras, and not both")
        if self.enrolled is not None and self.client is not None:
            raise ValueError("expected no client folder with a folder of cameras, which has one for each")
        if self.enrolled is None and (self.artifact is None) == (self.client is None):
            raise ValueError("expected an artifact or a client folder, and not both")
        if self.artifact is None and not self.encrypt_only and self.server is None:
            raise ValueError("expected an artifact, a server with a client folder, or encrypt_only")
        if self.server is not None and (self.encrypt_only or self.artifact is not None):
            raise ValueError("expected a server without an artifact, and not encrypt_only")

    def key_of(self, camera: str) -> tuple[SecurityKey, Path]:
        """Read the key of a camera, and return it with its client folder; no name for the only key of the job.

        Raises:
            KeyFileError: the key file is invalid.
        """
        if self.enrolled is not None:
            return SecurityKey.read(self.enrolled / camera / KEY_FILE), self.enrolled / camera / "client"
        folder = self.client if self.client is not None else Path(str(self.artifact)) / "client"
        return SecurityKey.read(Path(str(self.key_file))), folder

    def settings(self) -> ClientSettings | None:
        """Return the settings of a client; None if there is no client folder, as opening the clients explains.

        Raises:
            ArtifactError: the settings are invalid.
        """
        folder = next(iter(sorted(self.enrolled.glob("*/client"))), None) if self.enrolled else self.client
        folder = folder or Path(str(self.artifact)) / "client"
        return read_client(folder).settings if folder.is_dir() else None

    def takes_pictures(self) -> bool:
        """Return whether a clip of the model has one frame, so that every picture is a clip.

        Raises:
            ArtifactError: the client settings are invalid.
        """
        settings = self.settings()
        return settings is not None and settings.binding.geometry.frames == 1

    def output(self) -> OutputKind:
        """Return what the model answers.

        Raises:
            ArtifactError: the client settings are invalid.
        """
        settings = self.settings()
        return settings.answer.kind if settings else OutputKind.LOGITS

    def open_client(self, camera: str = "") -> Client:
        """Open the client with its key, and check that the artifact has it, if there is an artifact.

        Args:
            camera: name of the camera; empty for the only key of the job.

        Raises:
            KeyFileError, ArtifactError, SignatureError: the key file or the artifact is invalid.
            MismatchError, UnknownKeyError: key and artifact do not belong together.
        """
        key, folder = self.key_of(camera)
        if self.artifact is None:
            return Client.open(folder, key).with_step(self.step)
        require_artifact(self.artifact)
        return read_sides(self.artifact / "server", folder, key, self.session.signed_by)[1].with_step(self.step)

    def preprocess(self, settings: ClientSettings) -> Preprocess:
        """Return the preprocessing of the artifact, with the sampling and stride of this job."""
        return settings.preprocess.with_sampling(self.sampling, self.stride)

    def identity(self, videos: Sequence[Video]) -> dict[str, Any]:
        """Return the settings that must not change for a batch to resume. Workers and cluster may change.

        Every key is read for it, so that one that cannot be used is found before anything runs.

        Raises:
            KeyFileError, ArtifactError, SignatureError: a key file, a client folder or the artifact is invalid.
            MismatchError, UnknownKeyError: keys and artifact do not belong together, or cameras are not of one model.
        """
        cameras = sorted({video.camera for video in videos})
        clients = {camera: self.open_client(camera) for camera in cameras}
        settings = clients[cameras[0]].settings
        require_pad(self.remote.pad, settings.binding)
        preprocess, paths = self.preprocess(settings), "\0".join(video.path for video in videos)
        return {
            "work": "encrypt" if self.encrypt_only else "predict",
            **self._key_settings(clients),
            "manifest": self._manifest_of(cameras),
            "views": str(self.views),
            "sampling": str(preprocess.sampling),
            "stride": preprocess.stride,
            **({} if self.step is None else {"step": self.step}),
            **(self._clip_settings() if self.encrypt_only else self._table_settings()),
            "videos": len(videos),
            "list of videos": hashlib.sha256(paths.encode(errors="surrogateescape")).hexdigest(),
        }

    def _key_settings(self, clients: Mapping[str, Client]) -> dict[str, Any]:
        bindings = {camera: client.settings.binding for camera, client in clients.items()}
        if self.enrolled is None:
            (binding,) = bindings.values()
            return {"key_id": binding.key_id, "salt": binding.salt}
        keys = "\0".join(f"{camera} {binding.key}" for camera, binding in bindings.items())
        return {"cameras": len(bindings), "keys of cameras": hashlib.sha256(keys.encode()).hexdigest()}

    def _manifest_of(self, cameras: Sequence[str]) -> str:
        """Return the digest of the manifest that all client folders name."""
        digests = {camera: read_client(self.key_of(camera)[1]).manifest_sha256 for camera in cameras}
        if others := [camera for camera in cameras if digests[camera] != digests[cameras[0]]]:
            raise MismatchError(
                f"expected cameras of one model, but {others[0]} is enrolled for another one than {cameras[0]}",
                hint="run a batch for each model",
            )
        return digests[cameras[0]]

    def _clip_settings(self) -> dict[str, Any]:
        """Return the key that encrypted clips are sealed to, and their padding, if they are."""
        key, pad = self.remote.seal_to, self.remote.pad
        return {**({} if key is None else {"sealed to": key.fingerprint}), **({} if pad == 1 else {"padded to": pad})}

    def _table_settings(self) -> dict[str, Any]:
        """Return the settings that the rows of a table depend on, in addition to the artifact."""
        return {
            "top": self.top,
            "logits": self.logits,
            "engine": self.session.engine,
            "provider": str(self.session.provider),
            "provider options": dict(self.session.provider_options),
            "at a server": self.server is not None,
        }
