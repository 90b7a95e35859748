"""The ``Session`` protocol, and opening an artifact with a backend."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import Manifest, read_manifest, verify_files
from lcve_deploy.clips import EncryptedClip

__all__ = ["Session", "check_clip", "open_session"]

Logits = npt.NDArray[np.float32]


class Session(Protocol):
    """An engine that is ready to run."""

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""

    def run(self, clip: EncryptedClip) -> Logits:
        """Logits of encrypted clips, in the artifact's own label order.

        Args:
            clip: uint8 NumPy values ``[batch, N, L]`` or ``[batch, T, H, W, C]``.

        Returns:
            float32 ``[batch, classes]``.

        Raises:
            MismatchError: the clip was made for another artifact; nothing has run.
            SessionError: the engine failed.
        """


def open_session(server: str | os.PathLike[str], *, threads: int | None = None) -> Session:
    """Open ``server/`` of an artifact, once all its files have the digests of its manifest.

    Args:
        server: the folder with ``manifest.json``.
        threads: threads of one inference; by default the backend's own choice.

    Raises:
        ArtifactError: a manifest that does not hold, or files that are not its own.
        SessionError: the backend cannot open the model.
        MissingDependencyError: no backend is installed.
    """
    from lcve_deploy.runtime.onnxruntime import OnnxRuntimeSession

    folder = Path(server)
    manifest = read_manifest(folder)
    verify_files(folder, manifest.files)
    return OnnxRuntimeSession(folder, manifest, threads=threads)


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
