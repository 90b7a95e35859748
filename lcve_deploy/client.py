"""The key holder's side: a video in, encrypted clips out; logits in, predictions out.

Needs a key and ``client/``; no torch, no engine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import ClientSettings, read_client
from lcve_deploy.cipher.clips import binding_of, decrypt, encrypt
from lcve_deploy.clipfile import ClipFile
from lcve_deploy.clips import EncryptedClip, PlainClip, Views
from lcve_deploy.errors import MismatchError, SessionError
from lcve_deploy.files.reading import map_array, parse_json, read_bounded
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.predictions import Prediction, predictions, softmax
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.video import VideoClips, read_clips

__all__ = ["MAX_LOGITS", "Client", "Prediction", "softmax"]

MAX_LOGITS: Final = 2**26
"""Logits of one file: those of 150 thousand views with 400 classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Client:
    """A key and the settings of one artifact.

    Args:
        settings: content of ``client.json``.
        orders: K1, K2 and, if the labels are hidden, K3.
    """

    settings: ClientSettings
    orders: Orders

    @classmethod
    def open(cls, folder: str | os.PathLike[str], key: SecurityKey) -> Self:
        """Read ``client/`` of an artifact.

        Raises:
            ArtifactError: invalid settings.
            MismatchError: another key than the artifact's.
        """
        return cls.of(read_client(Path(folder)).settings, key)

    @classmethod
    def of(cls, settings: ClientSettings, key: SecurityKey) -> Self:
        """Make the orders of an artifact whose settings are read.

        Raises:
            MismatchError: another key than the artifact's.
        """
        binding = settings.binding
        classes = len(settings.classes) if settings.labels == "hidden" else None
        orders = derive_orders(key, salt=bytes.fromhex(binding.salt), geometry=binding.geometry, classes=classes)
        binding.require(binding_of(orders, binding.layout), here="artifact", there="key")
        return cls(settings=settings, orders=orders)

    def read_video(
        self, path: str | os.PathLike[str], *, views: Views | None = None, preprocess: Preprocess | None = None
    ) -> VideoClips:
        """Clips of a video, a folder of frames or an array, as the artifact's model wants them."""
        return read_clips(Path(path), preprocess or self.settings.preprocess, self.settings.binding.geometry, views)

    def encrypt(self, clip: PlainClip) -> EncryptedClip:
        """Encrypt clips ``[..., T, H, W, C]`` for this artifact."""
        return encrypt(clip, self.orders, layout=self.settings.binding.layout)

    def decrypt(self, clip: EncryptedClip) -> PlainClip:
        """The inverse of ``encrypt``."""
        return decrypt(clip, self.orders)

    def encrypt_video(self, video: VideoClips) -> ClipFile:
        """Encrypt the clips of a video, ready to be written as a file."""
        return ClipFile(clip=self.encrypt(video.clip), views=video.views)

    def read_logits(self, path: str | os.PathLike[str]) -> npt.NDArray[np.floating]:
        """Logits that the operator sent back, in the artifact's label order; ``[views, classes]``.

        Args:
            path: ``.npy``; or ``.json``, as ``lcve run --json`` prints it, or one list of logits on each line.

        Raises:
            SessionError: not an array, or not one of float logits of this artifact's classes.
            FileNotFoundError: there is no such file.
        """
        classes = len(self.settings.classes)
        is_json = Path(path).suffix.lower() == ".json"
        received = np.atleast_2d(_read_json(path) if is_json else map_array(path, "logits (.npy)", SessionError))
        fits = received.ndim == 2 and received.shape[1] == classes and received.dtype.kind == "f"
        if not fits or received.size > MAX_LOGITS:
            raise SessionError(
                f"expected float [views, {classes}], at most {MAX_LOGITS} logits, received {received.dtype} "
                f"{list(received.shape)}: {path}"
            )
        return np.array(received)

    def plain_order(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Logits ``[..., classes]`` of the server, put into the plain label order.

        Raises:
            MismatchError: another number of classes than the artifact's.
        """
        if logits.shape[-1] != len(self.settings.classes):
            raise MismatchError(
                f"expected the logits of {len(self.settings.classes)} classes, received {list(logits.shape)}",
                hint="check that the server has the server/ of this client/",
            )
        if self.orders.label_order is None:
            return logits
        plain = np.empty_like(logits)
        plain[..., self.orders.label_order] = logits
        return plain

    def read(self, logits: npt.NDArray[np.floating], *, top: int = 5) -> list[Prediction]:
        """What the answer of a model says of one video.

        Args:
            logits: of its views, ``[views, classes]``, in the artifact's own label order, as a session gives them.
            top: how many classes; of a regression, every output is returned.

        Raises:
            MismatchError: another number of classes than the artifact's.
            SessionError: no view, or logits that are not numbers.
        """
        return self.predict(self.plain_order(logits), top=top)

    def predict(self, logits: npt.NDArray[np.floating], *, top: int = 5) -> list[Prediction]:
        """What the logits of one video say, as the artifact's problem type has it.

        Args:
            logits: of its views, ``[views, classes]``, in the plain order.
            top: how many classes; of a regression, every output is returned.

        Raises:
            SessionError: no view, or logits that are not numbers.
        """
        if not len(logits) or not np.isfinite(logits).all():
            raise SessionError("expected finite logits of at least one view, received none or NaN or infinity")
        return predictions(logits, self.settings.classes, self.settings.problem_type, top=top)


def _read_json(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Logits in JSON: one value, or one on each line; each is a list, or an object with ``logits``."""
    data = read_bounded(path, "logits (JSON)", SessionError)
    try:
        rows = [row for value in _json_values(data) for row in _rows(value)]
        with np.errstate(over="ignore"):  # infinities are refused with the prediction
            return np.array(rows, dtype=np.float32)
    except ValueError as error:
        raise SessionError(f"expected logits in JSON: {error}: {path}", hint="lcve run --json prints them") from None


def _json_values(data: bytes) -> list[Any]:
    try:
        return [parse_json(data)]
    except ValueError:
        return [parse_json(line) for line in data.splitlines() if line.strip()]


def _rows(value: Any) -> list[list[float]]:
    logits = value.get("logits") if isinstance(value, dict) else value
    rows: list[Any] = logits if isinstance(logits, list) and logits and isinstance(logits[0], list) else [logits]
    for row in rows:
        if not isinstance(row, list) or not all(type(number) in (int, float) for number in row):
            raise ValueError("lists of numbers, or objects with them under logits")
    return rows
