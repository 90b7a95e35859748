"""What a batch is to do: the same for all of its workers."""

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
    """Everything that a worker is told: choices and absolute paths, which all machines must share. No secret.

    Args:
        key_file: path of the key; every worker reads it.
        artifact: folder with ``server/`` and ``client/``; None if there is only ``client``.
        client: folder with ``client.json``, in place of an artifact.
        encrypt_only: write encrypted clips, and run nothing.
        server: address of the model at a server, which answers in place of an engine; with ``client``.
        remote: how it is asked. With ``encrypt_only``, only its ``seal_to`` counts: the key that clips are sealed to.
        views: of every video.
        sampling, stride: in place of the artifact's own.
        top: classes of every row.
        logits: add the logits, in the plain order.
        session: how the artifact is opened; every worker gets its threads from the cluster.

    Raises:
        ValueError: neither an artifact nor a client folder, or both; or nothing that would answer its clips.
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
        """The key holder's side, with the key of the key file.

        Raises:
            KeyFileError, ArtifactError, MismatchError, SignatureError: what is invalid, or does not belong together.
        """
        key = SecurityKey.read(self.key_file)
        if self.artifact is not None:
            return paired_client(self.artifact, key, self.session.signed_by)
        return Client.open(self._client_folder, key)

    def open_classifier(self, threads: int | None) -> Classifier:
        """Both sides: the client, and an engine here with so many threads, or a server that is there.

        Raises:
            LcveError: as of ``Classifier.open``.
        """
        key = SecurityKey.read(self.key_file)
        if self.server is not None:
            return Classifier.open(self.server, key=key, client=self.client, remote=self.remote)
        return Classifier.open(str(self.artifact), key=key, session=dataclasses.replace(self.session, threads=threads))

    def preprocess(self, settings: ClientSettings) -> Preprocess:
        """The artifact's own preprocessing, with what was asked for instead."""
        return settings.preprocess.with_sampling(self.sampling, self.stride)

    def identity(self, settings: ClientSettings, videos: Sequence[Video]) -> dict[str, Any]:
        """What must be the same for a batch to resume where it stopped; how many work on it, and where, may change."""
        preprocess, paths = self.preprocess(settings), "\0".join(video.path for video in videos)
        return {
            "work": "encrypt" if self.encrypt_only else "predict",
            "key_id": settings.binding.key_id,
            "salt": settings.binding.salt,
            "manifest": read_client(self._client_folder).manifest_sha256,
            "views": str(self.views),
            "sampling": str(preprocess.sampling),
            "stride": preprocess.stride,
            **(self._sealing() if self.encrypt_only else self._answers()),
            "videos": len(videos),
            "list of videos": hashlib.sha256(paths.encode(errors="surrogateescape")).hexdigest(),
        }

    @property
    def _client_folder(self) -> Path:
        return self.client if self.client is not None else Path(str(self.artifact)) / "client"

    def _sealing(self) -> dict[str, Any]:
        """To whom encrypted clips are sealed; nothing if they are not."""
        key = self.remote.seal_to
        return {} if key is None else {"sealed to": key.fingerprint}

    def _answers(self) -> dict[str, Any]:
        """What the rows of a table depend on, in addition to the artifact."""
        return {
            "top": self.top,
            "logits": self.logits,
            "engine": self.session.engine,
            "provider": str(self.session.provider),
            "provider options": dict(self.session.provider_options),
            "at a server": self.server is not None,
        }
