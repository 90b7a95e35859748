"""The key holder's side: encrypt clips of a video, and read predictions from logits.

Needs a key and ``client/``, but no torch and no engine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import ClientSettings, read_client
from lcve_deploy.cipher.clips import binding_of, decrypt, encrypt
from lcve_deploy.cipher.outputs import to_plain_order
from lcve_deploy.clipfile import ClipFile
from lcve_deploy.clips import EncryptedClip, PlainClip, Views
from lcve_deploy.errors import EncryptedClipError, MismatchError, SessionError
from lcve_deploy.files.reading import map_array, parse_json, read_bounded
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.output import ModelOutput, OutputKind
from lcve_deploy.model.predictions import Prediction, predictions, softmax
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.packing import require_step
from lcve_deploy.video import VideoClips, read_clips

__all__ = ["MAX_LOGITS", "Client", "Prediction", "softmax", "token_grid"]

MAX_LOGITS: Final = 2**26
"""Maximum logits of one file: enough for 150 thousand views with 400 classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Client:
    """A key and the settings of one artifact.

    Args:
        settings: content of ``client.json``.
        orders: K1, K2 and, if the labels are hidden, K3.
        step: quantisation step of clips, only for the scheme ``lcve-dct-1``: the smaller, the better and the larger;
            by default 16.

    Raises:
        MismatchError: there is a step, and the scheme has none.
        EncryptedClipError: the step is out of range.
    """

    settings: ClientSettings
    orders: Orders
    step: float | None = None

    def __post_init__(self) -> None:
        self._require_step(self.step)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], key: SecurityKey) -> Self:
        """Open the ``client/`` folder of an artifact.

        Args:
            folder: folder with ``client.json``.
            key: key of the artifact.

        Raises:
            ArtifactError: the settings are invalid.
            MismatchError: the key does not belong to the artifact.
        """
        return cls.of(read_client(Path(folder)).settings, key)

    @classmethod
    def of(cls, settings: ClientSettings, key: SecurityKey) -> Self:
        """Derive the orders of an artifact from its settings and its key.

        Raises:
            MismatchError: the key does not belong to the artifact.
        """
        binding = settings.binding
        orders = derive_orders(
            key,
            salt=bytes.fromhex(binding.salt),
            geometry=binding.geometry,
            classes=settings.hidden_classes,
            scheme=binding.scheme,
        )
        binding.require(binding_of(orders, binding.layout), here="artifact", there="key")
        return cls(settings=settings, orders=orders)

    def with_step(self, step: float | None) -> Self:
        """Return the same client with another quantisation step; None keeps the present one.

        Raises:
            MismatchError, EncryptedClipError: as for the client.
        """
        return self if step is None else replace(self, step=step)

    def read_video(
        self, path: str | os.PathLike[str], *, views: Views | None = None, preprocess: Preprocess | None = None
    ) -> VideoClips:
        """Read the clips of a video, a picture, a folder of frames or an array.

        Args:
            path: video, picture, folder of pictures, or ``.npy`` array (uint8 ``[T, H, W, 3]`` of the model's
                geometry, which is not sampled or resized).
            views: temporal and spatial views; by default one.
            preprocess: sampling, resizing and cropping; by default those of the artifact.

        Raises:
            VideoError: the path does not exist, is not a video, or is an array of another shape or dtype.
            MissingDependencyError: PyAV is not installed.
        """
        return read_clips(Path(path), preprocess or self.settings.preprocess, self.settings.binding.geometry, views)

    def encrypt(self, clip: PlainClip, *, step: float | None = None) -> EncryptedClip:
        """Encrypt clips ``[..., T, H, W, C]`` (uint8) for this artifact.

        Args:
            clip: plain clips.
            step: quantisation step of these clips, in place of the client's own.

        Raises:
            MismatchError, EncryptedClipError: as for the client.
            ValueError: the clips do not have the geometry of the artifact.
        """
        self._require_step(step)
        return encrypt(clip, self.orders, layout=self.settings.binding.layout, step=self.step if step is None else step)

    def decrypt(self, clip: EncryptedClip) -> PlainClip:
        """Decrypt clips; the inverse of ``encrypt``.

        Raises:
            MismatchError: the clips were encrypted for another artifact.
        """
        return decrypt(clip, self.orders)

    def encrypt_video(self, video: VideoClips, *, step: float | None = None) -> ClipFile:
        """Encrypt the clips of a video as the content of an encrypted clip file; ``step`` as for ``encrypt``."""
        return ClipFile(clip=self.encrypt(video.clip, step=step), views=video.views)

    def _require_step(self, step: float | None) -> None:
        if step is None:
            return
        binding = self.settings.binding
        if not binding.packed:
            raise MismatchError(
                f"clips of this artifact have no quality: its scheme is {binding.scheme}",
                hint="leave the quality out, or export an artifact with --wire dct",
            )
        try:
            require_step(step, binding.geometry)
        except ValueError as error:
            raise EncryptedClipError(str(error)) from None

    def read_logits(self, path: str | os.PathLike[str]) -> npt.NDArray[np.floating]:
        """Read a file of logits from the operator.

        Args:
            path: ``.npy`` file; or ``.json`` file, as printed by ``lcve run --json`` or with a list of logits per line.
                Outputs with a row for each token are only read from ``.npy`` files.

        Returns:
            Float ``[views, classes]``, or the shape of another output after the axis of views, in the artifact's own
            order.

        Raises:
            SessionError: the file does not contain float logits of this artifact's classes, or its other output.
            FileNotFoundError: the file does not exist.
        """
        output = self.settings.answer
        is_json = Path(path).suffix.lower() == ".json" and not output.kind.has_tokens
        received = _read_json(path) if is_json else map_array(path, f"{output.kind} (.npy)", SessionError)
        rows = received.reshape(-1, *output.shape) if received.shape == output.shape else received
        if rows.shape[1:] != output.shape or rows.dtype.kind != "f" or rows.size > max(MAX_LOGITS, output.values):
            raise SessionError(
                f"expected float {_axes(output)}, at most {MAX_LOGITS} {output.kind}, received {received.dtype} "
                f"{list(received.shape)}: {path}"
            )
        return np.array(rows)

    def plain_order(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Reorder an output from the artifact's own order to the plain order: its classes, and its rows of tokens.

        Args:
            logits: output of the model, ``[..., classes]``; ``[..., width]`` for features; or ``[..., tokens, width]``
                or ``[..., tokens, classes]`` with a row for each token.

        Raises:
            MismatchError: the number of classes, or the shape of another output, is not the artifact's.
        """
        output = self.settings.answer
        if logits.shape[-len(output.shape) :] != output.shape:
            of_classes = f"the logits of {output.width} classes"
            raise MismatchError(
                f"expected {of_classes if output.kind is OutputKind.LOGITS else output}, received {list(logits.shape)}",
                hint="check that the server serves the server/ folder that belongs to this client/ folder",
            )
        return to_plain_order(logits, self.orders, per_token=output.kind.has_tokens)

    def token_grid(self, tokens: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return the tokens of the cubes where their cubes are in the clip, without prefix tokens.

        Args:
            tokens: output with a row for each token, ``[..., tokens, width]``, in the plain order.

        Returns:
            ``[..., T/t, H/h, W/w, width]``: one row for each cube of ``(t, h, w)``.

        Raises:
            ValueError: the output of this artifact has no row for each token, or the shape is another one.
        """
        return token_grid(tokens, self.settings.binding.geometry)

    def read(self, logits: npt.NDArray[np.floating], *, top: int = 5) -> list[Prediction]:
        """Convert the logits of one video, as returned by a session, to predictions.

        Args:
            logits: float ``[views, classes]``, in the artifact's own label order.
            top: number of classes to return; a regression returns every output.

        Raises:
            MismatchError: the number of classes is not the artifact's, or the artifact answers no logits.
            SessionError: there is no view, or a logit is NaN or infinity.
        """
        return self.predict(self.plain_order(logits), top=top)

    def predict(self, logits: npt.NDArray[np.floating], *, top: int = 5) -> list[Prediction]:
        """Convert the logits of one video in the plain order to predictions, by the artifact's problem type.

        Args:
            logits: float ``[views, classes]``, in the plain order.
            top: number of classes to return; a regression returns every output.

        Raises:
            MismatchError: the artifact answers no logits of clips.
            SessionError: there is no view, or a logit is NaN or infinity.
        """
        if self.settings.answer.kind is not OutputKind.LOGITS:
            raise MismatchError(
                f"expected an artifact that answers logits of clips, this one answers {self.settings.answer}",
                hint="use the values themselves: plain_order puts them into the plain order",
            )
        if not len(logits) or not np.isfinite(logits).all():
            raise SessionError("expected finite logits of at least one view, received none or NaN or infinity")
        return predictions(logits, self.settings.classes, self.settings.problem_type, top=top)


def token_grid(tokens: npt.NDArray[np.floating], geometry: ClipGeometry) -> npt.NDArray[np.floating]:
    """Return the tokens of the cubes where their cubes are in the clip; see ``Client.token_grid``."""
    rows = tokens.shape[-2] if tokens.ndim > 1 else 0
    if rows < geometry.cubes:
        raise ValueError(
            f"expected [..., tokens, width] with at least {geometry.cubes} tokens, received {tokens.shape}"
        )
    cubes = tokens[..., rows - geometry.cubes :, :]
    return cubes.reshape(*tokens.shape[:-2], *geometry.grid, tokens.shape[-1])


def _axes(output: ModelOutput) -> str:
    return f"[views, {', '.join(map(str, output.shape))}]"


def _read_json(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Read logits from JSON: one value, or one per line; each is a list, or an object with ``logits``."""
    data = read_bounded(path, "logits (JSON)", SessionError)
    try:
        rows = [row for value in _json_values(data) for row in _rows(value)]
        with np.errstate(over="ignore"):  # ``predict`` refuses infinity
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
