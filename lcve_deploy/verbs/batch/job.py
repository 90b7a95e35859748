"""The job of a batch, the same for all of its workers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lcve_deploy.artifact import ClientSettings, read_client
from lcve_deploy.client import Client
from lcve_deploy.clips import Views
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.remote import RemoteOptions
from lcve_deploy.runtime import SessionOptions
from lcve_deploy.verbs.batch.videos import Video
from lcve_deploy.verbs.classify import Classifier
from lcve_deploy.verbs.pairs import paired_client

__all__ = ["Job"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Options and absolute paths that every worker receives. All machines need access to the paths. Has no secrets.

    Args:
        key_file: path of the key file; every worker reads it.
        artifact: folder with ``server/`` and ``client/``; None with ``client``.
        client: folder with ``client.json``, instead of an artifact.
        encrypt_only: write encrypted clips, and run no model.
        server: address of a model on a server that runs the clips; with ``client``.
        remote: how to connect to the server. With ``encrypt_only``, only its ``seal_to`` is used: the key to seal
            clips to.
        views: temporal and spatial views of every video.
        sampling: how frames are chosen; by default as the artifact says.
        stride: frames from one sampled frame to the next; by default as the artifact says.
        top: classes in every row.
        logits: add the logits, in the plain order.
        session: how to open the artifact; the threads of each worker come from the cluster instead.

    Raises:
        ValueError: not exactly one of artifact and client folder; or a client folder without ``server`` and without
            ``encrypt_only``; or ``server`` with an artifact or ``encrypt_only``.
    """

    key_file: Path
    artifact: Path | None = None
    client: Path | None = None
    encrypt_only: bool = False
    server: str | None = None
    remote: RemoteOptions = field(default_factory=RemoteOptions)
    views: Views = field(default_factory=Views)
    sampling: Sampling | None = None
    stride: int | None = None
    top: int = 5
    logits: bool = False
    session: SessionOptions = field(default_factory=SessionOptions)

    def __post_init__(self) -> None:
        if (self.artifact is None) == (self.client is None):
            raise ValueError("expected an artifact or a client folder, and not both")
        if self.client is not None and not self.encrypt_only and self.server is None:
            raise ValueError("expected a server with a client folder, or encrypt_only")
        if self.server is not None and (self.encrypt_only or self.client is None):
            raise ValueError("expected a client folder with a server, and not encrypt_only")

    def open_client(self) -> Client:
        """Open the client with the key in the key file.

        Raises:
            KeyFileError, ArtifactError, SignatureError: the key file or the artifact is invalid.
            MismatchError: key and artifact do not belong together.
        """
        key = SecurityKey.read(self.key_file)
        if self.artifact is not None:
            return paired_client(self.artifact, key, self.session.signed_by)
        return Client.open(self._client_folder, key)

    def open_classifier(self, threads: int | None) -> Classifier:
        """Open the client and the model: on this machine with this number of threads, or on the server.

        Raises:
            LcveError: as for ``Classifier.open``.
        """
        key = SecurityKey.read(self.key_file)
        if self.server is not None:
            return Classifier.open(self.server, key=key, client=self.client, remote=self.remote)
        return Classifier.open(str(self.artifact), key=key, session=dataclasses.replace(self.session, threads=threads))

    def preprocess(self, settings: ClientSettings) -> Preprocess:
        """Return the preprocessing of the artifact, with the sampling and stride of this job."""
        return settings.preprocess.with_sampling(self.sampling, self.stride)

    def identity(self, settings: ClientSettings, videos: Sequence[Video]) -> dict[str, Any]:
        """Return the settings that must not change for a batch to resume. Workers and cluster may change."""
        preprocess, paths = self.preprocess(settings), "\0".join(video.path for video in videos)
        return {
            "work": "encrypt" if self.encrypt_only else "predict",
            "key_id": settings.binding.key_id,
            "salt": settings.binding.salt,
            "manifest": read_client(self._client_folder).manifest_sha256,
            "views": str(self.views),
            "sampling": str(preprocess.sampling),
            "stride": preprocess.stride,
            **(self._seal_settings() if self.encrypt_only else self._table_settings()),
            "videos": len(videos),
            "list of videos": hashlib.sha256(paths.encode(errors="surrogateescape")).hexdigest(),
        }

    @property
    def _client_folder(self) -> Path:
        return self.client if self.client is not None else Path(str(self.artifact)) / "client"

    def _seal_settings(self) -> dict[str, Any]:
        """Return the key that encrypted clips are sealed to, if they are."""
        key = self.remote.seal_to
        return {} if key is None else {"sealed to": key.fingerprint}

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
