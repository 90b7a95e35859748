"""Calls of the protocol other than inference, in one table that gRPC and HTTP share.

A call takes its request as a protobuf message and returns the fields of its response as plain values.

Source: Open Inference Protocol v2, and its extensions for model configuration, model repository, statistics and
system shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy import __version__
from lcve_deploy.errors import ForbiddenError, RequestError, UnknownModelError
from lcve_deploy.protocol.sealing import SEALING
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.models.served import ServedModel
from lcve_deploy.serving.shared_memory import ClientRegions
from lcve_deploy.serving.state import Exchange, ServerState

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
    """One call of the protocol.

    Args:
        answer: coroutine function that returns the fields of the response, given the server and the request.
        memory: function that returns them given the client's shared memory regions; in place of ``answer``.
        is_public: whether the call needs no token. True only for the health checks of orchestrators.
        spans_keys: whether the answer concerns the requests of all clients; refused to a token limited to some keys.
    """

    answer: Callable[[ServerState, Any], Coroutine[Any, Any, Fields]] | None = None
    memory: Callable[[ClientRegions, Any], Fields] | None = None
    is_public: bool = False
    spans_keys: bool = False


async def answer_call(name: str, state: ServerState, request: Any, exchange: Exchange) -> Any:
    """Run the named call of ``CALLS`` and return its response as a protobuf message.

    Args:
        name: name of the call, such as ``ModelReady``.
        state: server that answers.
        request: protobuf message ``{name}Request``.
        exchange: the request's client.

    Raises:
        ForbiddenError: the client's token is limited to some keys, and the call spans all.
        RequestError: the request is invalid or not supported.
        UnknownModelError: no such model, version or shared memory region.
        UnavailableError: the model has no loaded version.
    """
    from google.protobuf import json_format

    call, fields = CALLS[name], Fields()
    if call.spans_keys and exchange.keys is not None:
        raise ForbiddenError(
            f"this token is limited to some keys, and {name} concerns all of them",
            hint="use a token without key ids, or the server's metrics",
        )
    if call.memory is not None:
        fields = call.memory(state.regions_of(exchange), request)
    elif call.answer is not None:
        fields = await call.answer(state, request)
    return json_format.ParseDict(fields, getattr(messages(), f"{name}Response")())


async def _server_live(state: ServerState, request: Any) -> Fields:
    return {"live": True}


async def _server_ready(state: ServerState, request: Any) -> Fields:
    return {"ready": state.ready}


async def _model_ready(state: ServerState, request: Any) -> Fields:
    served = state.registry.versions(request.name) if request.name in state.registry.names else {}
    return {"ready": bool(served) and (not request.version or request.version in map(str, served))}


async def _server_metadata(state: ServerState, request: Any) -> Fields:
    return {"name": "lcve-deploy", "version": __version__, "extensions": list(_EXTENSIONS)}


async def _model_metadata(state: ServerState, request: Any) -> Fields:
    model = state.registry.get(request.name, request.version)
    return model.metadata([str(number) for number in state.registry.versions(request.name)])


async def _model_config(state: ServerState, request: Any) -> Fields:
    from google.protobuf import json_format

    config = state.registry.get(request.name, request.version).config
    fields = json_format.MessageToDict(config, preserving_proto_field_name=True)
    if state.sealing is not None:
        fields["parameters"] = {**fields["parameters"], SEALING: {"string_value": state.sealing.offer.value}}
    return {"config": fields}


async def _model_statistics(state: ServerState, request: Any) -> Fields:
    registry = state.registry
    if request.name:
        only = [registry.get(request.name, request.version)] if request.version else None
        models = only or list(registry.versions(request.name).values())
    else:
        models = [model for name in registry.names for model in registry.versions(name).values()]
    return {"model_stats": [model.statistics.to_json(model.name, model.version) for model in models]}


async def _repository_index(state: ServerState, request: Any) -> Fields:
    if request.repository_name:
        raise RequestError("expected an empty repository name: this server has no named repositories")
    rows = [row for name in state.registry.names for row in _version_rows(state, name)]
    return {"models": [row for row in rows if not request.ready or row["state"] == "READY"]}


def _version_rows(state: ServerState, name: str) -> list[Fields]:
    """Return one row for each version: served versions, and versions that failed to load with the reason."""
    served: dict[int, ServedModel] = state.registry.versions(name)
    statuses = dict.fromkeys(served, ("READY", ""))
    for number, reason in state.registry.failures(name).items():
        statuses.setdefault(number, ("UNAVAILABLE", reason))
    return [
        {"name": name, "version": str(number), "state": status, "reason": reason}
        for number, (status, reason) in sorted(statuses.items())
    ]


async def _repository_load(state: ServerState, request: Any) -> Fields:
    """Check the model's folder now. If loading fails, the versions that are served stay."""
    if request.parameters:
        raise RequestError("load requests with parameters are not supported: the operator configures the models")
    await state.refresh(request.model_name)
    failures = state.registry.failures(request.model_name)
    if failures:
        number = max(failures)
        raise RequestError(f"failed to load {request.model_name!r} version {number}: {failures[number]}")
    return {}


async def _repository_unload(state: ServerState, request: Any) -> Fields:
    state.registry.versions(request.model_name)
    raise RequestError(
        f"unloading {request.model_name} on request is not supported",
        hint="the operator chooses which models are served, by the folders passed to lcve serve",
    )


def _memory_status(regions: ClientRegions, request: Any) -> Fields:
    return {"regions": regions.status(request.name)}


def _memory_register(regions: ClientRegions, request: Any) -> Fields:
    regions.register(request.name, request.key, request.offset, request.byte_size)
    return {}


def _memory_unregister(regions: ClientRegions, request: Any) -> Fields:
    regions.unregister(request.name)
    return {}


async def _refuse_cuda(state: ServerState, request: Any) -> Fields:
    raise RequestError(
        "this server does not support CUDA shared memory",
        hint="use system shared memory, or send clips in the request",
    )


async def _cuda_status(state: ServerState, request: Any) -> Fields:
    if request.name:
        raise UnknownModelError(f"there is no CUDA shared memory region {request.name[:200]!r}")
    return {"regions": {}}


async def _cuda_unregister(state: ServerState, request: Any) -> Fields:
    return {}


async def _refuse_settings(state: ServerState, request: Any) -> Fields:
    raise RequestError(
        "clients cannot read or change log and trace settings",
        hint="the operator sets the log level with lcve serve --log-level",
    )


CALLS: Final = {
    "ServerLive": Call(answer=_server_live, is_public=True),
    "ServerReady": Call(answer=_server_ready, is_public=True),
    "ModelReady": Call(answer=_model_ready),
    "ServerMetadata": Call(answer=_server_metadata),
    "ModelMetadata": Call(answer=_model_metadata),
    "ModelConfig": Call(answer=_model_config),
    "ModelStatistics": Call(answer=_model_statistics, spans_keys=True),
    "RepositoryIndex": Call(answer=_repository_index),
    "RepositoryModelLoad": Call(answer=_repository_load, spans_keys=True),
    "RepositoryModelUnload": Call(answer=_repository_unload),
    "SystemSharedMemoryStatus": Call(memory=_memory_status),
    "SystemSharedMemoryRegister": Call(memory=_memory_register),
    "SystemSharedMemoryUnregister": Call(memory=_memory_unregister),
    "CudaSharedMemoryStatus": Call(answer=_cuda_status),
    "CudaSharedMemoryRegister": Call(answer=_refuse_cuda),
    "CudaSharedMemoryUnregister": Call(answer=_cuda_unregister),
    "TraceSetting": Call(answer=_refuse_settings),
    "LogSettings": Call(answer=_refuse_settings),
}
