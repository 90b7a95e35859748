"""``ModelConfig`` of an artifact: the content of Triton's ``config.pbtxt`` and of a server's reply.

Only fields that any server may return are set here. The warm-up, which only Triton's own loader reads, is added when
a model repository is written: ``lcve_deploy.deployments.triton.model_folder``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy.artifact import ModelSpec, TensorSpec
from lcve_deploy.clips import KeyRef
from lcve_deploy.protocol.binding import model_to_parameters
from lcve_deploy.protocol.stubs import config_messages

__all__ = ["FILES", "ONNX", "PLAN", "Scheduling", "model_config", "request_dims"]

ONNX: Final = "onnxruntime_onnx"
"""Triton platform of an ONNX graph in ONNX Runtime."""
PLAN: Final = "tensorrt_plan"
"""Triton platform of a TensorRT engine."""
FILES: Final = {ONNX: "model.onnx", PLAN: "model.plan"}
"""Model file of each platform."""

_BACKENDS: Final = {ONNX: "onnxruntime", PLAN: "tensorrt"}
_TYPES: Final = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}


@dataclass(frozen=True, kw_only=True)
class Scheduling:
    """How a server batches, queues and runs the requests of a model.

    Args:
        max_batch: maximum clips per batch.
        queue_delay: seconds that a clip may wait for others to fill a batch.
        preferred_batches: batch sizes that run without waiting; by default only the maximum.
        max_queue: maximum waiting requests; further ones are refused. 0 for no limit.
        queue_timeout: seconds that a request may wait before it is refused; a request may ask for less. 0 for no limit.
        instances: concurrent instances on each device.
        gpu: whether the instances run on GPUs.
        versions: how many of the newest versions are served; 0 for all.
    """

    max_batch: int
    queue_delay: float = 0.0
    preferred_batches: tuple[int, ...] = ()
    max_queue: int = 0
    queue_timeout: float = 0.0
    instances: int = 1
    gpu: bool = False
    versions: int = 1


def model_config(
    model: ModelSpec, scheduling: Scheduling, *, name: str, platform: str = ONNX, key: KeyRef | None = None
) -> Any:
    """Return the configuration of one model.

    Args:
        model: scheme, geometry, layout, input and output.
        scheduling: batches, queue, instances and versions.
        name: model name.
        platform: ``onnxruntime_onnx``, ``tensorrt_plan``, or the name of another runtime.
        key: key that is built into the graph; None for a model with any number of keys, which are not stated.

    Returns:
        ``ModelConfig`` (protobuf). Shapes exclude the batch axis.
    """
    pb = config_messages()
    config = pb.ModelConfig(
        name=name,
        platform=platform,
        backend=_BACKENDS.get(platform, platform),
        max_batch_size=scheduling.max_batch,
        default_model_filename=FILES.get(platform, ""),
    )
    config.input.add(
        name=model.request_input.name,
        data_type=pb.DataType.Value(_TYPES[model.request_input.dtype]),
        dims=request_dims(model.request_input),
    )
    config.output.add(
        name=model.output.name,
        data_type=pb.DataType.Value(_TYPES[model.output.dtype]),
        dims=[size or -1 for size in model.output.shape[1:]],
    )
    _set_versions(config.version_policy, scheduling.versions)
    _set_batching(config.dynamic_batching, scheduling)
    kind = pb.ModelInstanceGroup.KIND_GPU if scheduling.gpu else pb.ModelInstanceGroup.KIND_CPU
    config.instance_group.add(count=scheduling.instances, kind=kind)
    for parameter, value in model_to_parameters(model, key).items():
        config.parameters[parameter].string_value = value
    return config


def request_dims(spec: TensorSpec) -> list[int]:
    """Return the axes of a request's input without the batch axis. Packed clips have none: their axis is of bytes."""
    return [size or -1 for size in spec.shape[1:]] or [-1]


def _set_versions(policy: Any, versions: int) -> None:
    if versions:
        policy.latest.num_versions = versions
    else:
        policy.all.SetInParent()


def _set_batching(batching: Any, scheduling: Scheduling) -> None:
    batching.max_queue_delay_microseconds = round(scheduling.queue_delay * 1e6)
    batching.preferred_batch_size.extend(scheduling.preferred_batches)
    if scheduling.max_queue:
        batching.default_queue_policy.max_queue_size = scheduling.max_queue
    if scheduling.queue_timeout:
        batching.default_queue_policy.default_timeout_microseconds = round(scheduling.queue_timeout * 1e6)
        batching.default_queue_policy.allow_timeout_override = True
