"""Requests over gRPC as messages: good ones, and ones that no client library would send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lcve_deploy.protocol.stubs import messages, services
from tests.conformance.model import BATCH, BINDING, CLASSES, CLIP, MAX_BATCH, MODEL, SHAPE

__all__ = ["GRPC_CASES", "GrpcAnswer", "GrpcCase", "ask_grpc"]

pb = messages()


@dataclass(frozen=True, kw_only=True)
class GrpcCase:
    """One call."""

    name: str
    call: str
    request: Any
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GrpcAnswer:
    """Code by its name, what goes with it, and the message that came; None with an error."""

    code: str
    details: str
    message: Any


def ask_grpc(channel: Any, case: GrpcCase, *, timeout: float = 20) -> GrpcAnswer:
    """Make a call."""
    import grpc

    stub = services().GRPCInferenceServiceStub(channel)
    try:
        message = getattr(stub, case.call)(case.request, timeout=timeout, metadata=tuple(case.metadata.items()))
    except grpc.RpcError as error:
        return GrpcAnswer(code=error.code().name, details=error.details() or "", message=None)
    return GrpcAnswer(code="OK", details="", message=message)


def tensor(*, values: list[int] | None = None, parameters: Mapping[str, Any] | None = None, **changes: Any) -> Any:
    """The input, one clip; with values, they are in the message."""
    message = pb.ModelInferRequest.InferInputTensor(
        **{"name": "clips", "datatype": "UINT8", "shape": [1, *SHAPE], **changes}
    )
    if values is not None:
        message.contents.uint_contents.extend(values)
    _set(message.parameters, parameters or {})
    return message


def _set(target: Any, parameters: Mapping[str, Any]) -> None:
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for name, value in parameters.items():
        setattr(target[name], kinds[type(value)], value)


def output(name: str = "logits", **parameters: Any) -> Any:
    """A wanted output."""
    message = pb.ModelInferRequest.InferRequestedOutputTensor(name=name)
    _set(message.parameters, parameters)
    return message


def request(*, parameters: Mapping[str, Any] | None = None, **changes: Any) -> Any:
    """A request with one clip as raw bytes."""
    whole = {"model_name": MODEL, "inputs": [tensor()], "raw_input_contents": [CLIP[0].tobytes()], **changes}
    message = pb.ModelInferRequest(**whole)
    _set(message.parameters, parameters or {})
    return message


def _infer(name: str, **changes: Any) -> GrpcCase:
    return GrpcCase(name=name, call="ModelInfer", request=request(**changes))


def _call(title: str, call: str, **fields: Any) -> GrpcCase:
    return GrpcCase(name=title, call=call, request=getattr(pb, f"{call}Request")(**fields))


_ABOUT: Final = (
    _call("live", "ServerLive"),
    _call("ready", "ServerReady"),
    _call("model ready", "ModelReady", name=MODEL),
    _call("version ready", "ModelReady", name=MODEL, version="1"),
    _call("unknown version ready", "ModelReady", name=MODEL, version="9"),
    _call("version that is no number ready", "ModelReady", name=MODEL, version="x"),
    _call("unknown model ready", "ModelReady", name="none"),
    _call("no model ready", "ModelReady"),
    _call("server metadata", "ServerMetadata"),
    _call("model metadata", "ModelMetadata", name=MODEL),
    _call("model metadata of a version", "ModelMetadata", name=MODEL, version="1"),
    _call("model metadata, unknown version", "ModelMetadata", name=MODEL, version="9"),
    _call("model metadata, version that is no number", "ModelMetadata", name=MODEL, version="x"),
    _call("model metadata, unknown model", "ModelMetadata", name="none"),
    _call("config", "ModelConfig", name=MODEL),
    _call("config of a version", "ModelConfig", name=MODEL, version="1"),
    _call("config, unknown version", "ModelConfig", name=MODEL, version="9"),
    _call("config, unknown model", "ModelConfig", name="none"),
    _call("statistics", "ModelStatistics", name=MODEL),
    _call("statistics of a version", "ModelStatistics", name=MODEL, version="1"),
    _call("statistics of all", "ModelStatistics"),
    _call("statistics, unknown version", "ModelStatistics", name=MODEL, version="9"),
    _call("statistics, unknown model", "ModelStatistics", name="none"),
)
_REPOSITORY: Final = (
    _call("index", "RepositoryIndex"),
    _call("index, ready ones", "RepositoryIndex", ready=True),
    _call("index of a repository", "RepositoryIndex", repository_name="other"),
    _call("load", "RepositoryModelLoad", model_name=MODEL),
    _call("unload", "RepositoryModelUnload", model_name=MODEL),
    _call("load, unknown model", "RepositoryModelLoad", model_name="none"),
)
_REGION: Final = {"shared_memory_region": "none"}
_MEMORY: Final = (
    _call("system regions", "SystemSharedMemoryStatus"),
    _call("system region that is not there", "SystemSharedMemoryStatus", name="none"),
    _call("CUDA regions", "CudaSharedMemoryStatus"),
    _call("register what is not there", "SystemSharedMemoryRegister", name="r", key="/lcve-not-there", byte_size=64),
    _call("register without a key", "SystemSharedMemoryRegister", name="r", byte_size=64),
    _call("register another path", "SystemSharedMemoryRegister", name="r", key="/../etc/hostname", byte_size=1),
    _call("unregister what is not there", "SystemSharedMemoryUnregister", name="none"),
    _call("unregister all", "SystemSharedMemoryUnregister"),
    _call("CUDA, register", "CudaSharedMemoryRegister", name="r", raw_handle=b"abcd", byte_size=4),
    _infer(
        "input of an unknown region",
        inputs=[tensor(parameters={**_REGION, "shared_memory_byte_size": CLIP[0].nbytes})],
        raw_input_contents=[],
    ),
    _infer("output into an unknown region", outputs=[output(**_REGION, shared_memory_byte_size=4 * CLASSES)]),
)
_OTHERS: Final = (
    _call("log settings", "LogSettings"),
    _call("trace settings", "TraceSetting"),
)
_GOOD_ONES: Final = (
    _infer("raw bytes"),
    _infer("values in the message", inputs=[tensor(values=CLIP[0].ravel().tolist())], raw_input_contents=[]),
    _infer("version given", model_version="1"),
    _infer("id", id="request 7"),
    _infer("output named", outputs=[output()]),
    _infer("own parameters", parameters={"own": "text", "count": 3, "share": 0.5, "yes": True}),
    _infer("the binding", parameters=BINDING),
    _infer("the binding of another key", parameters={**BINDING, "lcve_salt": "0" * 32}),
    _infer("part of a binding", parameters={"lcve_salt": "0" * 32}),
    _infer("timeout", parameters={"timeout": 10_000_000}),
    _infer("timeout that is text", parameters={"timeout": "soon"}),
    _infer("priority", parameters={"priority": 1}),
    _infer("sequence", parameters={"sequence_id": 5, "sequence_start": True}),
    _infer("two best classes", outputs=[output(classification=2)]),
    _infer("several clips", inputs=[tensor(shape=[BATCH, *SHAPE])], raw_input_contents=[CLIP[:BATCH].tobytes()]),
)
_BAD_ONES: Final = (
    _infer("unknown model", model_name="none"),
    _infer("no model", model_name=""),
    _infer("unknown version", model_version="9"),
    _infer("version that is no number", model_version="x"),
    _infer("wrong name of the input", inputs=[tensor(name="other")]),
    _infer("no inputs", inputs=[], raw_input_contents=[]),
    _infer("no inputs, bytes left", inputs=[]),
    _infer("input twice", inputs=[tensor(), tensor()], raw_input_contents=[CLIP[0].tobytes()] * 2),
    _infer("input too much", inputs=[tensor(), tensor(name="o")], raw_input_contents=[CLIP[0].tobytes()] * 2),
    _infer("name missing", inputs=[tensor(name="")]),
    _infer("datatype missing", inputs=[tensor(datatype="")]),
    _infer("datatype unknown", inputs=[tensor(datatype="UINT9")]),
    _infer("wrong datatype", inputs=[tensor(datatype="INT8")]),
    _infer("wrong datatype and bytes", inputs=[tensor(datatype="FP32")]),
    _infer("shape below zero", inputs=[tensor(shape=[-1, *SHAPE])]),
    _infer("shape with a huge number", inputs=[tensor(shape=[2**40, *SHAPE])]),
    _infer("shape whose product wraps", inputs=[tensor(shape=[2**40, 2**40, 2**40])]),
    _infer("wrong shape", inputs=[tensor(shape=[1, SHAPE[1], SHAPE[0]])]),
    _infer("wrong number of axes", inputs=[tensor(shape=[1, SHAPE[0] * SHAPE[1]])]),
    _infer("no batch axis", inputs=[tensor(shape=list(SHAPE))]),
    _infer("empty shape", inputs=[tensor(shape=[])]),
    _infer("batch of zero", inputs=[tensor(shape=[0, *SHAPE])], raw_input_contents=[b""]),
    _infer(
        "batch above the largest",
        inputs=[tensor(shape=[MAX_BATCH + 1, *SHAPE])],
        raw_input_contents=[bytes((MAX_BATCH + 1) * CLIP[0].nbytes)],
    ),
    _infer("bytes missing", raw_input_contents=[]),
    _infer("bytes too few", raw_input_contents=[CLIP[0].tobytes()[:-1]]),
    _infer("bytes too many", raw_input_contents=[CLIP[0].tobytes() + b"x"]),
    _infer("more bytes than inputs", raw_input_contents=[CLIP[0].tobytes()] * 2),
    _infer("values and bytes", inputs=[tensor(values=[1, 2, 3])]),
    _infer("values too few", inputs=[tensor(values=[1, 2, 3])], raw_input_contents=[]),
    _infer("values above 255", inputs=[tensor(values=[256] * CLIP[0].size)], raw_input_contents=[]),
    _infer("unknown output", outputs=[output("other")]),
    _infer("output twice", outputs=[output(), output()]),
    _infer("output without a name", outputs=[output("")]),
    _infer("classes below zero", outputs=[output(classification=-1)]),
)
GRPC_CASES: Final = {
    "about": _ABOUT,
    "repository": _REPOSITORY,
    "memory": _MEMORY,
    "others": _OTHERS,
    "good": _GOOD_ONES,
    "bad": _BAD_ONES,
}
"""Cases by what they are about."""
