"""Classify: a video in, predictions out, with an artifact on this machine or a model at a server. With the key."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.client import Client
from lcve_deploy.clipfile import ClipFile, read_clip_file
from lcve_deploy.clips import PlainClip, Views
from lcve_deploy.encrypted_model import EncryptedModel, run_views
from lcve_deploy.errors import ArtifactError, EncryptedClipError
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.predictions import Prediction, ProblemType
from lcve_deploy.model.preprocess import Sampling
from lcve_deploy.progress import Progress, silent
from lcve_deploy.remote import RemoteOptions, RemoteSession, is_address
from lcve_deploy.runtime import SessionOptions, open_session
from lcve_deploy.sealing import SealingKey
from lcve_deploy.verbs.pairs import paired_client, read_sides

__all__ = ["Classification", "Classifier", "classify"]

Input = str | os.PathLike[str] | PlainClip

ENCRYPTED: Final = ".lcve"
"""Suffix of an encrypted clip."""

_REQUESTS: Final = 4
"""Views that a server is asked for at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Classification:
    """What a video shows.

    Args:
        predictions: most probable first; of a regression, every output in the order of the logits.
        logits: of each view, ``[views, classes]``, in the plain order of the classes.
        views: how they sample the video.
        problem_type: what the logits are.
        notes: what must be said of the video, such as that it was too short and frames were repeated.
    """

    predictions: tuple[Prediction, ...]
    logits: npt.NDArray[np.floating]
    views: Views
    problem_type: ProblemType
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        client: Client,
        logits: npt.NDArray[np.floating],
        *,
        views: Views,
        top: int = 5,
        notes: tuple[str, ...] = (),
    ) -> Self:
        """Read the answer of a model.

        Args:
            client: of the artifact.
            logits: ``[views, classes]``, in the artifact's own label order.
            views: how they sample the video.
            top: how many classes.
            notes: on the video.

        Raises:
            MismatchError: another number of classes than the artifact's.
            SessionError: no view, or logits that are not numbers.
        """
        plain = client.plain_order(logits)
        return cls(
            predictions=tuple(client.predict(plain, top=top)),
            logits=plain,
            views=views,
            problem_type=client.settings.problem_type,
            notes=notes,
        )

    def to_json(self) -> dict[str, Any]:
        """All but the logits, as plain values."""
        return {
            "views": str(self.views),
            "notes": list(self.notes),
            "problem_type": self.problem_type.value,
            "predictions": [prediction.to_json() for prediction in self.predictions],
        }


class Classifier:
    """A key holder's client, and a model that answers its clips: for many videos. A context manager.

    Args:
        client: encrypts the clips, and reads the answers.
        model: answers them.
        in_flight: views of a video that the model is asked for at once.
        on_close: called by ``close``.
    """

    def __init__(
        self, client: Client, model: EncryptedModel, *, in_flight: int = 1, on_close: Callable[[], None] | None = None
    ) -> None:
        self.client, self.model = client, model
        self._in_flight, self._on_close = in_flight, on_close

    @classmethod
    def open(
        cls,
        at: str | os.PathLike[str],
        *,
        key: SecurityKey,
        client: str | os.PathLike[str] | None = None,
        session: SessionOptions | None = None,
        remote: RemoteOptions | None = None,
    ) -> Self:
        """Open a model here, or make sure that there is one at a server.

        Args:
            at: artifact folder, or its ``server/``, or the address of a model, such as ``grpc://host:8001/model``.
            key: of the artifact.
            client: folder with ``client.json``; for anything but a whole artifact, which has one.
            session: how an artifact on this machine is opened.
            remote: how a server is asked.

        Raises:
            ArtifactError, MismatchError, SignatureError: folders that are invalid, or do not belong together.
            SessionError, MissingDependencyError: the model cannot be opened here.
            RequestError, DeniedError, UnavailableError, DeadlineError: the server does not answer as it should.
            ValueError: options for a server with a folder, or for a folder with an address; or no client folder
                with an address.
        """
        if isinstance(at, str) and is_address(at):
            if session is not None:
                raise ValueError(f"session options are for an artifact on this machine, received the address {at}")
            if client is None:
                raise ValueError("with the address of a model, the client folder of its artifact is needed")
            return cls._open_remote(at, Client.open(client, key), remote or RemoteOptions())
        if remote is not None:
            raise ValueError(f"remote options are for the address of a model, received the folder {at}")
        return cls._open_here(Path(at), key, None if client is None else Path(client), session or SessionOptions())

    @classmethod
    def _open_here(cls, root: Path, key: SecurityKey, client_folder: Path | None, options: SessionOptions) -> Self:
        if client_folder is None:
            client = paired_client(root, key, options.signed_by)
            return cls(client, open_session(root / "server", options))
        if (root / "server" / MANIFEST).is_file():
            raise ArtifactError(
                f"{root} is a whole artifact, which has its own client folder, but {client_folder} is given too",
                hint=f"leave the client folder out, or pass {root / 'server'}",
            )
        _, client = read_sides(root, client_folder, key, options.signed_by)
        return cls(client, open_session(root, options))

    @classmethod
    def _open_remote(cls, address: str, client: Client, options: RemoteOptions) -> Self:
        settings = client.settings
        session = RemoteSession(address, settings.binding, options, classes=len(settings.classes))
        session.connect()
        return cls(client, session, in_flight=_REQUESTS, on_close=session.close)

    def classify(
        self,
        video: Input,
        *,
        views: Views | None = None,
        sampling: Sampling | None = None,
        stride: int | None = None,
        top: int = 5,
        open_with: SealingKey | None = None,
        progress: Progress = silent,
    ) -> Classification:
        """Encrypt a video, run it, and read the answer; see ``classify``."""
        content, notes = self._encrypted(video, views, sampling, stride, open_with)
        logits = run_views(self.model, content.clip, in_flight=self._in_flight, progress=progress)
        return Classification.of(self.client, logits, views=content.views, top=top, notes=notes)

    def close(self) -> None:
        """End the connections to a server."""
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _encrypted(
        self,
        video: Input,
        views: Views | None,
        sampling: Sampling | None,
        stride: int | None,
        open_with: SealingKey | None,
    ) -> tuple[ClipFile, tuple[str, ...]]:
        """The clips of a video, encrypted, and the notes on it."""
        own = views is None and sampling is None and stride is None
        if isinstance(video, PlainClip):
            if not own:
                raise ValueError("clips are sampled already; views, sampling and stride are for videos")
            return _of_clips(self.client, video), ()
        path = Path(video)
        if path.suffix.lower() == ENCRYPTED:
            if not own:
                raise EncryptedClipError(
                    f"an encrypted clip has its views already; views, sampling and stride are for videos: {path}"
                )
            return read_clip_file(path, open_with=open_with), ()
        preprocess = self.client.settings.preprocess.with_sampling(sampling, stride)
        clips = self.client.read_video(path, views=views, preprocess=preprocess)
        return self.client.encrypt_video(clips), clips.notes


def _of_clips(client: Client, clip: PlainClip) -> ClipFile:
    """One clip, or several as temporal views."""
    values = clip.values[None] if clip.values.ndim == 4 else clip.values
    return ClipFile(clip=client.encrypt(PlainClip(values=values)), views=Views(temporal=max(len(values), 1)))


def classify(
    video: Input,
    at: str | os.PathLike[str],
    *,
    key: SecurityKey,
    client: str | os.PathLike[str] | None = None,
    views: Views | None = None,
    sampling: Sampling | None = None,
    stride: int | None = None,
    top: int = 5,
    open_with: SealingKey | None = None,
    session: SessionOptions | None = None,
    remote: RemoteOptions | None = None,
    progress: Progress = silent,
) -> Classification:
    """Say what a video shows: read it, encrypt it, run it at a model, and read the answer.

    For many videos, open a ``Classifier`` once.

    Args:
        video: path of a video, picture, folder of frames, array (``.npy``) or encrypted clip (``.lcve``); or clips,
            uint8 ``[T, H, W, C]`` or ``[views, T, H, W, C]`` of the model's geometry.
        at: artifact folder, or its ``server/``, or the address of a model, such as ``grpc://host:8001/model``.
        key: of the artifact.
        client: folder with ``client.json``; for anything but a whole artifact, which has one.
        views: temporal and spatial views of a video; by default one.
        sampling: of a video, instead of the artifact's own.
        stride: between frames of a video, instead of the artifact's own.
        top: how many classes.
        open_with: private key for an encrypted clip that is sealed.
        session: how an artifact on this machine is opened: engine, provider, threads, pinned key.
        remote: how a server is asked: deadline, retries, token, TLS.
        progress: told of every view, if there are several.

    Raises:
        VideoError, EncryptedClipError, SealingError: the video or clip cannot be read.
        LcveError: as of ``Classifier.open``, or the model failed.
        ValueError: as of ``Classifier.open``; or clips of another shape or dtype, or with options for videos.
    """
    with Classifier.open(at, key=key, client=client, session=session, remote=remote) as classifier:
        return classifier.classify(
            video, views=views, sampling=sampling, stride=stride, top=top, open_with=open_with, progress=progress
        )
