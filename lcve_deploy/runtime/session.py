"""Sessions: what every engine gives, how one is opened, and what it checks before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineRecord, ModelSpec, Profile, PublicKey
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.encrypted_model import EncryptedModel
from lcve_deploy.errors import SessionError

__all__ = ["Provider", "Session", "SessionOptions", "check_clip", "run_within"]

Logits = npt.NDArray[np.float32]

"""Name of the file of a TensorRT engine."""


class Provider(StrEnum):
    """Execution providers of ONNX Runtime, by the names that people use for them."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"

    @classmethod
    def parse(cls, name: str) -> Provider:
        """The provider of this name.

        Raises:
            SessionError: there is none.
        """
        try:
            return cls(name)
        except ValueError:
            raise SessionError(f"expected a provider of {', '.join(cls)}, received {name!r}") from None


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """How the server folder of an artifact is opened.

    Args:
        engine: name of an engine in ``engines/`` that has answered the probe on this machine, or
            ``fastest``; by default the graph itself, in ONNX Runtime.
        provider: of ONNX Runtime, for the graph itself; its name as text is accepted too.
        provider_options: as ONNX Runtime documents them; for the graph itself.
        threads: threads of one inference on a CPU; by default the runtime's own choice.
        signed_by: the owner's public key, where it is pinned; engines are outside the owner's signature.
        mapped: whether ONNX Runtime may map files, which must then not change while the session lives.

    Raises:
        SessionError: no such provider.
        ValueError: an engine with a provider; it was built for its own.
    """

    engine: str | None = None
    provider: Provider = Provider.CPU
    provider_options: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    signed_by: PublicKey | None = None
    mapped: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "provider", Provider.parse(self.provider))
        if self.engine is not None and (self.provider is not Provider.CPU or self.provider_options):
            raise ValueError("an engine was built for its provider; provider and its options are for the graph itself")


class Session(EncryptedModel, Protocol):
    """An engine that is ready to run. Threads may share it."""

    @property
    def model(self) -> ModelSpec:
        """What the model takes and gives."""

    @property
    def engine(self) -> EngineRecord | None:
        """Record of the engine, as it was when it was opened; None for the graph itself."""

    @property
    def device(self) -> str:
        """Runtime with its version, and hardware: that for which a proof holds."""

    def run(self, clip: EncryptedClip) -> Logits:
        """Logits of encrypted clips, in the artifact's own label order.

        Any number of clips: an engine that was built for some batch sizes only divides more, and fills up fewer.

        Args:
            clip: uint8 values ``[clips, N, L]`` or ``[clips, T, H, W, C]``, at least one: NumPy, or CuPy for a
                TensorRT session.

        Returns:
            float32 ``[clips, classes]``.

        Raises:
            MismatchError: the clip was made for another artifact; nothing has run.
            ValueError: not at least one uint8 clip; nothing has run.
            SessionError: the engine failed.
        """


def check_clip(clip: EncryptedClip, model: ModelSpec) -> None:
    """Refuse a clip that was not made for this artifact, before anything runs.

    Raises:
        MismatchError: key id, salt, scheme, geometry or layout differ.
        ValueError: not a batch of uint8 clips, or an empty one.
    """
    model.binding.require(clip.binding, here="artifact", there="encrypted clip")
    if clip.values.dtype != np.uint8 or clip.values.ndim != len(model.input.shape):
        raise ValueError(
            f"expected uint8 clips with one batch axis, {list(model.input.shape)}, received "
            f"{clip.values.dtype} {list(clip.values.shape)}"
        )
    if not clip.values.shape[0]:
        raise ValueError("expected at least one clip, received none")


def run_within(values: Any, profile: Profile, run: Callable[[Any], Logits]) -> Logits:
    """Logits ``[clips, classes]`` of any number of clips, from an engine that takes some batch sizes only.

    Args:
        values: NumPy or CuPy values ``[clips, ...]``, at least one.
        profile: batch sizes that the engine takes. More clips are divided; fewer are repeated to fill a batch.
        run: the engine.
    """
    parts = []
    for first in range(0, values.shape[0], profile.maximum):
        batch = values[first : first + profile.maximum]
        clips = batch.shape[0]
        if clips < profile.minimum:
            batch = batch[np.resize(np.arange(clips), profile.minimum)]
        parts.append(run(batch)[:clips])
    return np.concatenate(parts)
