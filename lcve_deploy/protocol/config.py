"""``ModelConfig`` of an artifact: what Triton reads from ``config.pbtxt``, and what servers answer."""

from __future__ import annotations

from typing import Any, Final

from lcve_deploy.artifact import Manifest
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.protocol.stubs import config_messages

__all__ = ["ONNX", "PLAN", "model_config"]

ONNX: Final = "onnxruntime_onnx"
"""Platform of a graph in ONNX Runtime."""
PLAN: Final = "tensorrt_plan"
"""Platform of a TensorRT engine."""

_TYPES: Final = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}


def model_config(manifest: Manifest, *, name: str, platform: str = ONNX, largest_batch: int, delay: float) -> Any:
    """The configuration of one model.

    Args:
        manifest: of the artifact.
        name: of the model.
        platform: ``onnxruntime_onnx``, ``tensorrt_plan``, or the name of another runtime.
        largest_batch: clips of one run.
        delay: seconds that a clip may wait for others to share its run.

    Returns:
        ``ModelConfig`` (protobuf). Shapes are without the batch.
    """
    pb = config_messages()
    config = pb.ModelConfig(name=name, platform=platform, max_batch_size=largest_batch)
    config.input.add(
        name=manifest.input.name,
        data_type=pb.DataType.Value(_TYPES[manifest.input.dtype]),
        dims=[size or -1 for size in manifest.input.shape[1:]],
    )
    config.output.add(
        name=manifest.output.name,
        data_type=pb.DataType.Value(_TYPES[manifest.output.dtype]),
        dims=[size or -1 for size in manifest.output.shape[1:]],
    )
    config.dynamic_batching.max_queue_delay_microseconds = round(delay * 1e6)
    for parameter, value in binding_to_parameters(manifest.binding).items():
        config.parameters[parameter].string_value = value
    return config
