"""Sessions: the interface of every engine, the options to open one, and the check of its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineRecord, ModelSpec, PublicKey
from lcve_deploy.artifact.engine_options import DEVICE, MAX_DEVICE, provider_option_problems
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.encrypted_model import EncryptedModel
from lcve_deploy.errors import SessionError
from lcve_deploy.runtime.bank import KeyBank, Tensors
from lcve_deploy.runtime.key_folders import KeyChanges, KeyFolders

__all__ = ["DEFAULT_MAX_KEYS", "Provider", "Session", "SessionOptions", "check_clip", "require_provider_options"]

Logits = npt.NDArray[np.float32]

DEFAULT_MAX_KEYS: Final = 64
"""Keys whose tensors a session keeps in memory at once."""


class Provider(StrEnum):
    """Execution providers of ONNX Runtime, by short names."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"

    @classmethod
    def parse(cls, name: str) -> Provider:
        """Return the provider of this name.

        Raises:
            SessionError: there is no such provider.
        """
        try:
            return cls(name)
        except ValueError:
            raise SessionError(f"expected a provider, one of {', '.join(cls)}, received {name!r}") from None


def require_provider_options(provider: Provider, options: Mapping[str, str]) -> None:
    """Refuse options that a provider must not have, such as those that load a library or name a file.

    Raises:
        SessionError: names every option that is not allowed, or has a value that is not.
    """
    if problems := provider_option_problems(str(provider), options):
        raise SessionError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """Options to open the server folder of an artifact.

    Args:
        engine: name of an engine in ``engines/`` that is proven on this machine, or ``fastest``; by default the
            graph itself, in ONNX Runtime.
        provider: execution provider of ONNX Runtime for the graph itself; also accepted as text.
        provider_options: options of the provider, as ONNX Runtime documents them, of those that are allowed; for the
            graph itself.
        device: number of the GPU, for a provider or an engine that runs on one; by default the first.
        threads: threads of one inference on a CPU; by default the runtime's own choice.
        signed_by: the owner's public key, if pinned. The owner's signature does not cover engines.
        mapped: whether ONNX Runtime may map files, which must then not change during the session.
        engine_secret: file with the secret by which this machine knows its own engines; by default the file that
            ``LCVE_ENGINE_SECRET`` names, or one in the user's state folder.
        max_keys: number of keys whose tensors are in memory at once; the least recently used lose their rows. On
            a CPU, memory is used only for keys that have been needed; on a GPU, for all of them from the start.

    Raises:
        SessionError: there is no such provider, or an option is not allowed.
        ValueError: the number of keys is below 1, or both an engine and a provider are given; an engine is built for
            its own provider. Or the number of the GPU is out of range, is given twice, or is given for the CPU.
    """

    engine: str | None = None
    provider: Provider = Provider.CPU
    provider_options: Mapping[str, str] = field(default_factory=dict)
    device: int | None = None
    threads: int | None = None
    signed_by: PublicKey | None = None
    mapped: bool = True
    engine_secret: Path | None = None
    max_keys: int = DEFAULT_MAX_KEYS

    def __post_init__(self) -> None:
        if self.max_keys < 1:
            raise ValueError(f"expected at least 1 key in memory, received {self.max_keys}")
        object.__setattr__(self, "provider", Provider.parse(self.provider))
        if self.engine is not None and (self.provider is not Provider.CPU or self.provider_options):
            raise ValueError("expected an engine or a provider, received both: an engine is built for its own provider")
        require_provider_options(self.provider, self.provider_options)
        self._require_device()

    def _require_device(self) -> None:
        if self.device is None:
            return
        if not 0 <= self.device <= MAX_DEVICE:
            raise ValueError(f"expected the number of a GPU from 0 to {MAX_DEVICE}, received {self.device}")
        if self.engine is None and self.provider is Provider.CPU:
            raise ValueError(f"GPU {self.device} needs a provider that runs on GPUs, or an engine; received neither")
        if DEVICE in self.provider_options:
            raise ValueError(f"expected the GPU once, received it as the device and as the provider's {DEVICE}")


class Session(EncryptedModel, Protocol):
    """An engine that is ready to run. Threads may share it."""

    @property
    def model(self) -> ModelSpec:
        """Clips, keyed tensors and output of the model."""

    @property
    def engine(self) -> EngineRecord | None:
        """Record of the engine, as read at opening; None for the graph itself."""

    @property
    def device(self) -> str:
        """Runtime with its version, and hardware. A proof is valid only for the same device."""

    @property
    def bank(self) -> KeyBank:
        """Rows of the keys in use."""

    @property
    def folders(self) -> KeyFolders | None:
        """Key folders of the model folder; None for a session that was not opened from one."""

    def refresh_keys(self) -> KeyChanges:
        """Look at the key folders again. Keys that are gone or changed are not used as they were by any later run."""

    def run(self, clip: EncryptedClip) -> Logits:
        """Return the logits of encrypted clips, in the label order of their key.

        Accepts any number of clips. An engine with fixed batch sizes splits larger batches and pads smaller ones.

        Args:
            clip: uint8 values ``[clips, N, L]`` or ``[clips, T, H, W, C]``, at least one clip: NumPy, or CuPy for a
                TensorRT session. Of the scheme ``lcve-dct-1``: records ``[clips]``.

        Returns:
            float32 ``[clips, classes]``.

        Raises:
            MismatchError: the clip was made for another model; nothing has run.
            UnknownKeyError: there is no key folder for the clip's key; nothing has run.
            ArtifactError, SignatureError: the key folder is refused; nothing has run.
            ValueError: the clip is not a non-empty batch of uint8 values or records; nothing has run.
            SessionError: the engine failed.
        """

    def run_batch(self, clips: Sequence[EncryptedClip]) -> Logits:
        """Return the logits of all encrypted clips, in order; their keys may differ.

        A batch with more keys than the bank has rows is split. If one key is refused, the batch fails.

        Args:
            clips: at least one; each as for ``run``.

        Returns:
            float32 ``[all clips, classes]``, each row in the label order of its clip's key.

        Raises:
            LcveError, ValueError: as for ``run``.
        """

    def run_with(self, values: npt.NDArray[Any], tensors: Tensors) -> Logits:
        """Return the logits of ciphertext under keyed tensors that belong to no key here, such as those of a probe.

        Args:
            values: uint8 ``[clips, N, L]`` or ``[clips, T, H, W, C]``, or records ``[clips]``; at least one clip.
            tensors: keyed tensors, by their names in a key folder; in the bank only during the run.

        Raises:
            ArtifactError: the tensors are not those of the model's bank.
            SessionError: the engine failed.
        """


def check_clip(clip: EncryptedClip, model: ModelSpec) -> None:
    """Refuse a clip that was not made for this model, under whatever key, before anything runs.

    Raises:
        MismatchError: scheme, geometry or layout differ.
        ValueError: the clip is not a batch of uint8 values or records, or is empty.
    """
    model.require(clip.binding, here="model", there="encrypted clip")
    if model.packed:
        if clip.values.ndim != 1:
            raise ValueError(f"expected clips with one batch axis, received the shape {list(clip.values.shape)}")
    elif clip.values.dtype != np.uint8 or clip.values.ndim != len(model.input.shape):
        raise ValueError(
            f"expected uint8 clips with one batch axis, {list(model.input.shape)}, received "
            f"{clip.values.dtype} {list(clip.values.shape)}"
        )
    if not clip.values.shape[0]:
        raise ValueError("expected at least one clip, received none")
