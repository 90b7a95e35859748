"""How a checkpoint is exported, as its owner chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lcve_deploy.artifact.key_folder import require_key_name
from lcve_deploy.clips import Layout, Scheme
from lcve_deploy.exporters.checkpoints import CheckpointOptions
from lcve_deploy.exporters.onnx import DEFAULT_OPSET
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Sampling
from lcve_deploy.verbs.fastest import EngineChoice

__all__ = ["ExportOptions"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How to export; the defaults suit most checkpoints.

    Args:
        checkpoint: facts that the checkpoint does not contain.
        class_names: class names in the order of the logits; by default those of the checkpoint, or else numbers.
        problem_type: how the logits become predictions. The default is that of the checkpoint, or else a regression
            for a single output and one class per clip for several outputs.
        show_labels: do not shuffle the classes, so that the operator can read the predictions.
        layout: layout of encrypted clips.
        scheme: scheme of encrypted clips; ``lcve-dct-1`` has the layout ``cubes``.
        opset: opset of the ONNX graph.
        salt: 16 public bytes; random by default.
        sampling: how frames are chosen; by default as the checkpoint says, or else Kinetics sampling.
        stride: frames from one sampled frame to the next; by default as the checkpoint says, or else 4.
        verify_clips: videos to measure parity on; by default built-in real clips and noise.
        tolerance: largest ``|Δlogit|`` that counts as equal; by default 1e-4 · max(1, logit scale).
        thorough: compare with a float64 reference instead of a float32 one, on more built-in clips, and write a probe
            of two clips.
        engine: engine to build in the artifact; compared on the same clips as the graph, and calibrated on them or on
            all built-in ones.
        key_name: name of the folder of the first key in ``server/keys``.
        embed_key: file to write with a graph that has the tensors of the first key inside, and runs by itself; outside
            of the artifact, since it belongs to the key.
        signing_key: signs the manifest of the model and that of the key; by default they are not signed.
    """

    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    class_names: tuple[str, ...] | None = None
    problem_type: ProblemType | None = None
    show_labels: bool = False
    layout: Layout = Layout.CUBES
    scheme: Scheme = Scheme.LCVE
    opset: int = DEFAULT_OPSET
    salt: bytes | None = None
    sampling: Sampling | None = None
    stride: int | None = None
    verify_clips: tuple[Path, ...] = ()
    tolerance: float | None = None
    thorough: bool = False
    engine: EngineChoice | None = None
    key_name: str = "main"
    embed_key: Path | None = None
    signing_key: SigningKey | None = None

    def __post_init__(self) -> None:
        require_key_name(self.key_name)
