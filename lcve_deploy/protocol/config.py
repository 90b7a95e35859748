"""``ModelConfig`` of an artifact: what Triton reads from ``config.pbtxt``, and what servers answer.

Everything here is for any server to answer. What only Triton's own loader reads, the warm-up, is added where a
repository is written: ``lcve_deploy.deployments.triton.model_folder``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from lcve_deploy.artifact import ModelSpec
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.protocol.stubs import config_messages

__all__ = ["FILES", "ONNX", "PLAN", "model_config"]

ONNX: Final = "onnxruntime_onnx"
"""Platform of a graph in ONNX Runtime."""
PLAN: Final = "tensorrt_plan"
"""Platform of a TensorRT engine."""
FILES: Final = {ONNX: "model.onnx", PLAN: "model.plan"}
"""Name of a platform's model file."""

_BACKENDS: Final = {ONNX: "onnxruntime", PLAN: "tensorrt"}
_TYPES: Final = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}


def model_config(
    model: ModelSpec,
    *,
    name: str,
    platform: str = ONNX,
    largest_batch: int,
    delay: float,
    preferred: Sequence[int] = (),
    waiting: int = 0,
    timeout: float = 0.0,
    instances: int = 1,
    gpu: bool = False,
    versions: int = 1,
) -> Any:
    """The configuration of one model.

    Args:
        model: what it takes and gives.
        name: of the model.
        platform: ``onnxruntime_onnx``, ``tensorrt_plan``, or the name of another runtime.
        largest_batch: clips of one run.
        delay: seconds that a clip may wait for others to share its run.
        preferred: batch sizes that are run at once; by default none below the largest.
        waiting: requests that may wait; further ones are refused. 0 for any number.
        timeout: seconds that a request may wait before it is refused, and may itself shorten; 0 for any time.
        instances: that run side by side on each device.
        gpu: whether they run on GPUs.
        versions: of the newest, how many are served; 0 for all.

    Returns:
        ``ModelConfig`` (protobuf). Shapes are without the batch.
    """
    pb = config_messages()
    config = pb.ModelConfig(
        name=name,
        platform=platform,
        backend=_BACKENDS.get(platform, platform),
        max_batch_size=largest_batch,
        default_model_filename=FILES.get(platform, ""),
    )
    config.input.add(
        name=model.input.name,
        data_type=pb.DataType.Value(_TYPES[model.input.dtype]),
        dims=[size or -1 for size in model.input.shape[1:]],
    )
    config.output.add(
        name=model.output.name,
        data_type=pb.DataType.Value(_TYPES[model.output.dtype]),
        dims=[size or -1 for size in model.output.shape[1:]],
    )
    _set_versions(config.version_policy, versions)
    _set_batching(config.dynamic_batching, delay, preferred, waiting, timeout)
    kind = pb.ModelInstanceGroup.KIND_GPU if gpu else pb.ModelInstanceGroup.KIND_CPU
    config.instance_group.add(count=instances, kind=kind)
    for parameter, value in binding_to_parameters(model.binding).items():
        config.parameters[parameter].string_value = value
    return config


def _set_versions(policy: Any, versions: int) -> None:
    if versions:
        policy.latest.num_versions = versions
    else:
        policy.all.SetInParent()


def _set_batching(batching: Any, delay: float, preferred: Sequence[int], waiting: int, timeout: float) -> None:
    batching.max_queue_delay_microseconds = round(delay * 1e6)
    batching.preferred_batch_size.extend(preferred)
    if waiting:
        batching.default_queue_policy.max_queue_size = waiting
    if timeout:
        batching.default_queue_policy.default_timeout_microseconds = round(timeout * 1e6)
        batching.default_queue_policy.allow_timeout_override = True
