"""A server folder to a model that can be served: checked, opened, and asked the probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineKind, Manifest, Profile, read_probe
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.protocol.config import ONNX, PLAN
from lcve_deploy.runtime.batches import run_within
from lcve_deploy.runtime.probe import probe_session, prove_engine
from lcve_deploy.runtime.session import Opened, open_recorded

__all__ = ["LoadedModel", "load_model"]

_PLATFORMS: Final = {
    EngineKind.ONNXRUNTIME: ONNX,
    EngineKind.OPENVINO: "openvino",
    EngineKind.TENSORRT: PLAN,
    EngineKind.TENSORRT_RTX: PLAN,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """An engine that has answered the probe.

    Args:
        opened: the session, and the record of its engine.
    """

    opened: Opened

    @property
    def manifest(self) -> Manifest:
        """Of the artifact."""
        return self.opened.session.manifest

    @property
    def platform(self) -> str:
        """What runs it, in the words of Triton where it has some."""
        return _PLATFORMS[self.opened.engine.kind] if self.opened.engine else ONNX

    @property
    def profile(self) -> Profile | None:
        """Batch sizes that the engine takes; None for any."""
        return self.opened.engine.profile if self.opened.engine else None

    def run(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits ``[batch, classes]`` of clips that are known to be of this artifact's binding."""
        clip = EncryptedClip(values=values, binding=self.manifest.binding)
        return run_within(self.opened.session, clip, self.profile)


def load_model(folder: Path, options: Mapping[str, Any]) -> LoadedModel:
    """Open a server folder and ask it the probe.

    Args:
        folder: with ``manifest.json``.
        options: of ``open_session``.

    Raises:
        ArtifactError, SignatureError, SessionError, MissingDependencyError: as of ``open_session``.
        ParityError: the probe was answered wrongly.
    """
    opened = open_recorded(folder, **options, mapped=False)  # files may change under a server
    manifest = opened.session.manifest
    probe = read_probe(folder, manifest)
    if opened.engine is None:
        report = probe_session(opened.session, probe, manifest.parity)
    else:
        report, _ = prove_engine(opened.session, probe, opened.engine)
    report.require()
    return LoadedModel(opened=opened)
