"""Every call of the protocol but inference, in one table from which both fronts answer.

A call takes its request as a protobuf message and gives the fields of its response as plain values, or a message.

Source: Open Inference Protocol v2, and its extensions for model configuration, model repository, statistics and
system shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy import __version__
from lcve_deploy.errors import RequestError, UnknownModelError
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.models.served import ServedModel
from lcve_deploy.serving.state import Service

__all__ = ["CALLS", "Call", "answer_call"]

_EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "statistics",
    "system_shared_memory",
)

Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call.

    Args:
        answer: gives the response's fields; a coroutine.
        is_open: whether it is answered without a token: what probes of orchestrators ask.
    """

    answer: Callable[[Service, Any], Coroutine[Any, Any, Fields]]
    is_open: bool = False


async def answer_call(name: str, service: Service, request: Any) -> Any:
    """Answer a call of the table with a protobuf message.

    Raises:
        RequestError, UnknownModelError, UnavailableError: what the call raises.
    """
    from google.protobuf import json_format

    fields = await CALLS[name].answer(service, request)
    return json_format.ParseDict(fields, getattr(messages(), f"{name}Response")())


async def _live(service: Service, request: Any) -> Fields:
    return {"live": True}


async def _ready(service: Service, request: Any) -> Fields:
    return {"ready": service.ready}


async def _model_ready(service: Service, request: Any) -> Fields:
    served = service.registry.versions(request.name) if request.name in service.registry.names else {}
    return {"ready": bool(served) and (not request.version or request.version in map(str, served))}


async def _server_metadata(service: Service, request: Any) -> Fields:
    return {"name": "lcve-deploy", "version": __version__, "extensions": list(_EXTENSIONS)}


async def _model_metadata(service: Service, request: Any) -> Fields:
    model = service.registry.get(request.name, request.version)
    return model.metadata([str(number) for number in service.registry.versions(request.name)])


async def _model_config(service: Service, request: Any) -> Fields:
    from google.protobuf import json_format

    config = service.registry.get(request.name, request.version).config
    return {"config": json_format.MessageToDict(config, preserving_proto_field_name=True)}


async def _statistics(service: Service, request: Any) -> Fields:
    registry = service.registry
    if request.name:
        only = [registry.get(request.name, request.version)] if request.version else None
        models = only or list(registry.versions(request.name).values())
    else:
        models = [model for name in registry.names for model in registry.versions(name).values()]
    return {"model_stats": [model.statistics.to_json(model.name, model.version) for model in models]}


async def _index(service: Service, request: Any) -> Fields:
    if request.repository_name:
        raise RequestError("the models here are not in repositories with names")
    rows = [row for name in service.registry.names for row in _states(service, name)]
    return {"models": [row for row in rows if not request.ready or row["state"] == "READY"]}


def _states(service: Service, name: str) -> list[Fields]:
    """A row a version: those that are served, and those that could not be loaded, with the reason."""
    served: dict[int, ServedModel] = service.registry.versions(name)
    states = dict.fromkeys(served, ("READY", ""))
    for number, reason in service.registry.failures(name).items():
        states.setdefault(number, ("UNAVAILABLE", reason))
    return [
        {"name": name, "version": str(number), "state": state, "reason": reason}
        for number, (state, reason) in sorted(states.items())
    ]


async def _load(service: Service, request: Any) -> Fields:
    """Look at the model's folder now; what is served already stays where that fails."""
    if request.parameters:
        raise RequestError("a model's configuration is the operator's, and not loaded by request")
    await service.registry.refresh(request.model_name)
    failures = service.registry.failures(request.model_name)
    if failures:
        number = max(failures)
        raise RequestError(f"failed to load {request.model_name!r} version {number}: {failures[number]}")
    return {}


async def _unload(service: Service, request: Any) -> Fields:
    service.registry.versions(request.model_name)
    raise RequestError(
        f"{request.model_name} is not unloaded by request",
        hint="the operator chooses which models are served, by the folders passed to lcve serve",
    )


async def _memory_status(service: Service, request: Any) -> Fields:
    return {"regions": service.regions.status(request.name)}


async def _memory_register(service: Service, request: Any) -> Fields:
    service.regions.register(request.name, request.key, request.offset, request.byte_size)
    return {}


async def _memory_unregister(service: Service, request: Any) -> Fields:
    service.regions.unregister(request.name)
    return {}


async def _no_cuda(service: Service, request: Any) -> Fields:
    raise RequestError("this server takes no CUDA shared memory", hint="use system shared memory, or send the clips")


async def _no_cuda_status(service: Service, request: Any) -> Fields:
    if request.name:
        raise UnknownModelError(f"there is no CUDA shared memory region {request.name[:200]!r}")
    return {"regions": {}}


async def _no_cuda_unregister(service: Service, request: Any) -> Fields:
    return {}


async def _no_settings(service: Service, request: Any) -> Fields:
    raise RequestError("log and trace settings are not for clients here", hint="they are options of lcve serve")


CALLS: Final = {
    "ServerLive": Call(answer=_live, is_open=True),
    "ServerReady": Call(answer=_ready, is_open=True),
    "ModelReady": Call(answer=_model_ready),
    "ServerMetadata": Call(answer=_server_metadata),
    "ModelMetadata": Call(answer=_model_metadata),
    "ModelConfig": Call(answer=_model_config),
    "ModelStatistics": Call(answer=_statistics),
    "RepositoryIndex": Call(answer=_index),
    "RepositoryModelLoad": Call(answer=_load),
    "RepositoryModelUnload": Call(answer=_unload),
    "SystemSharedMemoryStatus": Call(answer=_memory_status),
    "SystemSharedMemoryRegister": Call(answer=_memory_register),
    "SystemSharedMemoryUnregister": Call(answer=_memory_unregister),
    "CudaSharedMemoryStatus": Call(answer=_no_cuda_status),
    "CudaSharedMemoryRegister": Call(answer=_no_cuda),
    "CudaSharedMemoryUnregister": Call(answer=_no_cuda_unregister),
    "TraceSetting": Call(answer=_no_settings),
    "LogSettings": Call(answer=_no_settings),
}
