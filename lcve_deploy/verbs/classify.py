"""Classify a video with an artifact on this machine or a model on a server. Needs the key."""

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
from lcve_deploy.client import Client, token_grid
from lcve_deploy.clipfile import ClipFile, read_clip_file
from lcve_deploy.clips import PlainClip, Views
from lcve_deploy.encrypted_model import EncryptedModel, run_views
from lcve_deploy.errors import ArtifactError, EncryptedClipError, SessionError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.output import OutputKind
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
"""Suffix of an encrypted clip file."""

_REQUESTS: Final = 4
"""Concurrent requests to a server, one view each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Classification:
    """Predictions for one video, or another output of a model.

    Args:
        predictions: most probable first; for a regression, every output in the order of the logits. Empty if the model
            answers no logits of clips.
        logits: output of the model in the plain order: float ``[views, classes]``; ``[views, width]`` of features; or
            ``[views, tokens, width]`` or ``[views, tokens, classes]`` with a row for each token.
        views: temporal and spatial views of the video.
        problem_type: how the logits become predictions.
        notes: remarks on the video, for example that it was too short and frames were repeated.
        output: what the model answers; by default logits.
        geometry: clip and cube size, which places tokens in the clip; None if there are none.
        classes: names of the classes; empty if there are none.
    """

    predictions: tuple[Prediction, ...]
    logits: npt.NDArray[np.floating]
    views: Views
    problem_type: ProblemType
    notes: tuple[str, ...] = ()
    output: OutputKind = OutputKind.LOGITS
    geometry: ClipGeometry | None = None
    classes: tuple[str, ...] = ()

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
        """Convert the logits of a model to predictions.

        Args:
            client: client of the artifact.
            logits: float ``[views, classes]``, in the artifact's own label order.
            views: temporal and spatial views of the video.
            top: number of classes to return; a regression returns every output.
            notes: remarks on the video.

        Raises:
            MismatchError: the number of classes, or the shape of another output, is not the artifact's.
            SessionError: there is no view, or a value is NaN or infinity.
        """
        plain, settings = client.plain_order(logits), client.settings
        kind = settings.answer.kind
        if not len(plain) or not np.isfinite(plain).all():
            raise SessionError(f"expected finite {kind} of at least one view, received none or NaN or infinity")
        return cls(
            predictions=tuple(client.predict(plain, top=top)) if kind is OutputKind.LOGITS else (),
            logits=plain,
            views=views,
            problem_type=settings.problem_type,
            notes=notes,
            output=kind,
            geometry=settings.binding.geometry,
            classes=settings.classes,
        )

    def token_grid(self) -> npt.NDArray[np.floating]:
        """Return the tokens of the cubes where their cubes are in the clip, ``[views, T/t, H/h, W/w, width]``.

        Raises:
            ValueError: the model answers no row for each token.
        """
        if not self.output.has_tokens or self.geometry is None:
            raise ValueError(f"expected an output with a row for each token, this model answers {self.output}")
        return token_grid(self.logits, self.geometry)

    def class_shares(self) -> dict[str, float]:
        """Return the share of the cubes of all views for which each class has the largest logit, largest share first.

        Raises:
            ValueError: the model answers no logits for each token.
        """
        if self.output is not OutputKind.TOKEN_LOGITS:
            raise ValueError(f"expected logits for each token, this model answers {self.output}")
        counts = np.bincount(self.token_grid().argmax(axis=-1).reshape(-1), minlength=len(self.classes))
        order = np.argsort(-counts, kind="stable")
        return {self.classes[index]: float(counts[index] / counts.sum()) for index in order}

    def to_json(self) -> dict[str, Any]:
        """Return all fields except logits and tokens as plain values; features are included."""
        fields: dict[str, Any] = {"views": str(self.views), "notes": list(self.notes)}
        if self.output is OutputKind.LOGITS:
            shown = [prediction.to_json() for prediction in self.predictions]
            return {**fields, "problem_type": self.problem_type.value, "predictions": shown}
        fields |= {"output": self.output.value, "shape": list(self.logits.shape)}
        if self.output is OutputKind.FEATURES:
            return {**fields, "norms": self.norms(), "features": self.logits.tolist()}
        if self.output is OutputKind.TOKEN_LOGITS:
            return {**fields, "class_shares": self.class_shares()}
        return fields

    def norms(self) -> list[float]:
        """Return the Euclidean length of the features of each view."""
        return [float(norm) for norm in np.linalg.norm(self.logits.astype(np.float64), axis=-1).reshape(-1)]


class Classifier:
    """A client and a model, opened once to classify many videos. A context manager.

    Args:
        client: encrypts clips and reads logits.
        model: runs encrypted clips.
        in_flight: views of a video that run at the same time.
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
        step: float | None = None,
    ) -> Self:
        """Open a model on this machine, or connect to one on a server and check it.

        Args:
            at: artifact folder, its ``server/``, or the address of a model, such as ``grpc://host:8001/model``.
            key: key of the artifact.
            client: folder with ``client.json``; required unless ``at`` is an artifact folder, which contains it.
            session: how to open a model on this machine.
            remote: how to connect to a server.
            step: quantisation step of clips, only for the scheme ``lcve-dct-1``; by default 16.

        Raises:
            ArtifactError, MismatchError, SignatureError: a folder is invalid, or the folders do not belong together.
            SessionError, MissingDependencyError: the model cannot be opened on this machine.
            RequestError, DeniedError, UnavailableError, DeadlineError: the server refuses, is unreachable or too slow.
            ValueError: ``session`` with an address, ``remote`` with a folder, or an address without ``client``.
        """
        if isinstance(at, str) and is_address(at):
            if session is not None:
                raise ValueError(f"session options need an artifact on this machine, received the address {at}")
            if client is None:
                raise ValueError("the address of a model needs the client folder of its artifact, received none")
            return cls._open_remote(at, Client.open(client, key).with_step(step), remote or RemoteOptions())
        if remote is not None:
            raise ValueError(f"remote options need the address of a model, received the folder {at}")
        folder = None if client is None else Path(client)
        return cls._open_here(Path(at), key, folder, session or SessionOptions(), step)

    @classmethod
    def _open_here(
        cls, root: Path, key: SecurityKey, client_folder: Path | None, options: SessionOptions, step: float | None
    ) -> Self:
        if client_folder is None:
            client = paired_client(root, key, options.signed_by).with_step(step)
            return cls(client, open_session(root / "server", options))
        if (root / "server" / MANIFEST).is_file():
            raise ArtifactError(
                f"{root} is an artifact with its own client folder, but {client_folder} was passed too",
                hint=f"omit the client folder, or pass {root / 'server'}",
            )
        _, client = read_sides(root, client_folder, key, options.signed_by)
        return cls(client.with_step(step), open_session(root, options))

    @classmethod
    def _open_remote(cls, address: str, client: Client, options: RemoteOptions) -> Self:
        settings = client.settings
        session = RemoteSession(address, settings.binding, options, output=settings.answer)
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
        """Encrypt a video, run it, and read the predictions.

        Args:
            video: path of a video, picture, folder of frames, array (``.npy``) or encrypted clip (``.lcve``); or
                clips, uint8 ``[T, H, W, C]`` or ``[views, T, H, W, C]`` of the model's geometry; for a model of one
                frame, also a picture ``[H, W, C]``.
            views: temporal and spatial views of a video; by default one.
            sampling: how frames are chosen; by default as the artifact says.
            stride: frames from one sampled frame to the next; by default as the artifact says.
            top: number of classes to return; a regression returns every output.
            open_with: private key for an encrypted clip that is sealed.
            progress: receives every view, if there are several.

        Raises:
            VideoError, EncryptedClipError, SealingError: the video or clip cannot be read.
            LcveError: the model failed.
            ValueError: clips of another shape or dtype, or options for videos with clips.
        """
        content, notes = self._encrypt(video, views, sampling, stride, open_with)
        logits = run_views(self.model, content.clip, in_flight=self._in_flight, progress=progress)
        return Classification.of(self.client, logits, views=content.views, top=top, notes=notes)

    def close(self) -> None:
        """Close the connections to a server, if any."""
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _encrypt(
        self,
        video: Input,
        views: Views | None,
        sampling: Sampling | None,
        stride: int | None,
        open_with: SealingKey | None,
    ) -> tuple[ClipFile, tuple[str, ...]]:
        """Return the encrypted clips of a video, and the notes on it."""
        by_default = views is None and sampling is None and stride is None
        if isinstance(video, PlainClip):
            if not by_default:
                raise ValueError("clips are already sampled; views, sampling and stride apply only to videos")
            return _encrypt_clips(self.client, video), ()
        path = Path(video)
        if path.suffix.lower() == ENCRYPTED:
            if not by_default:
                raise EncryptedClipError(
                    f"an encrypted clip is already sampled; views, sampling and stride apply only to videos: {path}"
                )
            return read_clip_file(path, open_with=open_with), ()
        preprocess = self.client.settings.preprocess.with_sampling(sampling, stride)
        clips = self.client.read_video(path, views=views, preprocess=preprocess)
        return self.client.encrypt_video(clips), clips.notes


def _encrypt_clips(client: Client, clip: PlainClip) -> ClipFile:
    """Encrypt one clip, or several as temporal views."""
    values = clip.values[None] if clip.values.shape in client.settings.binding.geometry.picture_shapes else clip.values
    values = values[None] if values.ndim == 4 else values
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
    step: float | None = None,
    progress: Progress = silent,
) -> Classification:
    """Classify one video: encrypt it, run it, and read the predictions.

    For many videos, open a ``Classifier`` once.

    Args:
        video: path of a video, picture, folder of frames, array (``.npy``) or encrypted clip (``.lcve``); or clips,
            uint8 ``[T, H, W, C]`` or ``[views, T, H, W, C]`` of the model's geometry; for a model of one frame, also a
            picture ``[H, W, C]``.
        at: artifact folder, its ``server/``, or the address of a model, such as ``grpc://host:8001/model``.
        key: key of the artifact.
        client: folder with ``client.json``; required unless ``at`` is an artifact folder, which contains it.
        views: temporal and spatial views of a video; by default one.
        sampling: how frames are chosen; by default as the artifact says.
        stride: frames from one sampled frame to the next; by default as the artifact says.
        top: number of classes to return; a regression returns every output.
        open_with: private key for an encrypted clip that is sealed.
        session: how to open a model on this machine: engine, provider, threads, pinned key.
        remote: how to connect to a server: deadline, retries, token, TLS.
        step: quantisation step of clips, only for the scheme ``lcve-dct-1``; by default 16.
        progress: receives every view, if there are several.

    Raises:
        VideoError, EncryptedClipError, SealingError: the video or clip cannot be read.
        LcveError: as for ``Classifier.open``, or the model failed.
        ValueError: as for ``Classifier.open``; or clips of another shape or dtype, or options for videos with clips.
    """
    with Classifier.open(at, key=key, client=client, session=session, remote=remote, step=step) as classifier:
        return classifier.classify(
            video, views=views, sampling=sampling, stride=stride, top=top, open_with=open_with, progress=progress
        )
