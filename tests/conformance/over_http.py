"""Requests over HTTP as they are on the wire: good ones, and ones that no client library would send."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.conformance.model import BATCH, BINDING, CLIP, MAX_BATCH, MODEL, SHAPE

__all__ = ["HTTP_CASES", "HttpAnswer", "HttpCase", "ask_http"]

_INFER: Final = f"/v2/models/{MODEL}/infer"
_LENGTH: Final = "Inference-Header-Content-Length"


@dataclass(frozen=True, kw_only=True)
class HttpCase:
    """One request."""

    name: str
    method: str
    path: str
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """Status, headers with names in small letters, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, or its part before binary tensors, as JSON."""
        length = int(self.headers.get(_LENGTH.lower(), len(self.body)))
        return json.loads(self.body[:length])


def ask_http(address: str, case: HttpCase, *, timeout: float = 20) -> HttpAnswer:
    """Send a request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        chunked = not isinstance(case.body, bytes)
        connection.request(case.method, case.path, case.body or None, dict(case.headers), encode_chunked=chunked)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(status=response.status, headers=headers, body=response.read())
    finally:
        connection.close()


def tensor(**changes: Any) -> dict[str, Any]:
    """The input in JSON, one clip; a change to None takes a field away."""
    whole = {"name": "clips", "datatype": "UINT8", "shape": [1, *SHAPE], "data": list(CLIP[0].tobytes()), **changes}
    return {name: value for name, value in whole.items() if value is not None}


def binary(size: int = CLIP[0].nbytes, **changes: Any) -> dict[str, Any]:
    """The input where its bytes follow the JSON."""
    return tensor(**{"data": None, "parameters": {"binary_data_size": size}, **changes})


def _request(**changes: Any) -> dict[str, Any]:
    whole = {"inputs": [tensor()], **changes}
    return {name: value for name, value in whole.items() if value is not None}


def _json(name: str, *, path: str = _INFER, **changes: Any) -> HttpCase:
    return HttpCase(name=name, method="POST", path=path, body=json.dumps(_request(**changes)).encode())


def _binary(
    name: str, *, tail: bytes = CLIP[0].tobytes(), header: str | None = None, body: bytes = b"", **changes: Any
) -> HttpCase:
    head = json.dumps({"inputs": [binary()], **changes}).encode()
    headers = {_LENGTH: str(len(head)) if header is None else header}
    return HttpCase(name=name, method="POST", path=_INFER, body=body or head + tail, headers=headers)


def _get(name: str, path: str, method: str = "GET") -> HttpCase:
    return HttpCase(name=name, method=method, path=path)


def _post(name: str, path: str, value: Any = None) -> HttpCase:
    body = b"" if value is None else json.dumps(value).encode()
    return HttpCase(name=name, method="POST", path=path, body=body)


def _raw(name: str, body: bytes | Iterable[bytes], **headers: str) -> HttpCase:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpCase(name=name, method="POST", path=_INFER, body=body, headers=names)


_HEAD: Final = json.dumps({"inputs": [binary()]}).encode()
_GOOD: Final = json.dumps(_request()).encode()

_ABOUT: Final = (
    _get("live", "/v2/health/live"),
    _get("ready", "/v2/health/ready"),
    _get("live, by POST", "/v2/health/live", "POST"),
    _get("ready, by HEAD", "/v2/health/ready", "HEAD"),
    _get("health of another name", "/v2/health/other"),
    _get("model ready", f"/v2/models/{MODEL}/ready"),
    _get("version ready", f"/v2/models/{MODEL}/versions/1/ready"),
    _get("unknown version ready", f"/v2/models/{MODEL}/versions/9/ready"),
    _get("version that is no number ready", f"/v2/models/{MODEL}/versions/x/ready"),
    _get("unknown model ready", "/v2/models/none/ready"),
    _get("server metadata", "/v2"),
    _get("server metadata, with a slash", "/v2/"),
    _get("server metadata, by POST", "/v2", "POST"),
    _get("model metadata", f"/v2/models/{MODEL}"),
    _get("model metadata of a version", f"/v2/models/{MODEL}/versions/1"),
    _get("model metadata, unknown version", f"/v2/models/{MODEL}/versions/9"),
    _get("model metadata, version that is no number", f"/v2/models/{MODEL}/versions/x"),
    _get("model metadata, unknown model", "/v2/models/none"),
    _get("config", f"/v2/models/{MODEL}/config"),
    _get("config of a version", f"/v2/models/{MODEL}/versions/1/config"),
    _get("config, unknown version", f"/v2/models/{MODEL}/versions/9/config"),
    _get("config, unknown model", "/v2/models/none/config"),
    _get("statistics", f"/v2/models/{MODEL}/stats"),
    _get("statistics of a version", f"/v2/models/{MODEL}/versions/1/stats"),
    _get("statistics of all", "/v2/models/stats"),
    _get("statistics, unknown version", f"/v2/models/{MODEL}/versions/9/stats"),
    _get("statistics, unknown model", "/v2/models/none/stats"),
    _get("models, without a name", "/v2/models"),
    _get("nothing of a model", f"/v2/models/{MODEL}/other"),
    _get("root", "/"),
    _get("another version of the protocol", "/v1/models/actions"),
    _get("nothing of the protocol", "/v2/other"),
    _get("metrics on the port of requests", "/metrics"),
    _get("infer, by GET", _INFER),
    _get("infer, by PUT", _INFER, "PUT"),
)
_REPOSITORY: Final = (
    _post("index", "/v2/repository/index", {}),
    _post("index, empty body", "/v2/repository/index"),
    _post("index, ready ones", "/v2/repository/index", {"ready": True}),
    _post("index, ready is no truth value", "/v2/repository/index", {"ready": "yes"}),
    _post("index, body that is no object", "/v2/repository/index", []),
    HttpCase(name="index, body that is not JSON", method="POST", path="/v2/repository/index", body=b"{"),
    _get("index, by GET", "/v2/repository/index"),
    _post("load", f"/v2/repository/models/{MODEL}/load", {}),
    _post("unload", f"/v2/repository/models/{MODEL}/unload", {}),
    _post("load, unknown model", "/v2/repository/models/none/load", {}),
)
_MEMORY: Final = (
    _get("system regions", "/v2/systemsharedmemory/status"),
    _get("system region that is not there", "/v2/systemsharedmemory/region/none/status"),
    _get("CUDA regions", "/v2/cudasharedmemory/status"),
    _post(
        "register what is not there",
        "/v2/systemsharedmemory/region/r/register",
        {"key": "/lcve-not-there", "offset": 0, "byte_size": 64},
    ),
    _post("register without a key", "/v2/systemsharedmemory/region/r/register", {"offset": 0, "byte_size": 64}),
    _post(
        "register another path",
        "/v2/systemsharedmemory/region/r/register",
        {"key": "/../etc/hostname", "offset": 0, "byte_size": 1},
    ),
    _post("register, empty body", "/v2/systemsharedmemory/region/r/register"),
    _post("unregister what is not there", "/v2/systemsharedmemory/region/none/unregister"),
    _post("unregister all", "/v2/systemsharedmemory/unregister"),
    _post(
        "CUDA, register",
        "/v2/cudasharedmemory/region/r/register",
        {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 4},
    ),
    _json(
        "input of an unknown region",
        inputs=[
            tensor(data=None, parameters={"shared_memory_region": "none", "shared_memory_byte_size": CLIP[0].nbytes})
        ],
    ),
    _json(
        "output into an unknown region",
        outputs=[{"name": "logits", "parameters": {"shared_memory_region": "none", "shared_memory_byte_size": 20}}],
    ),
)
_GOOD_ONES: Final = (
    _json("JSON"),
    _json("JSON, nested data", inputs=[tensor(data=CLIP[:1].tolist())]),
    _json("JSON, version given", path=f"/v2/models/{MODEL}/versions/1/infer"),
    _json("JSON, id", id="request 7"),
    _json("JSON, empty id", id=""),
    _json("JSON, output named", outputs=[{"name": "logits"}]),
    _json("JSON, no outputs", outputs=[]),
    _json("JSON, output as binary", outputs=[{"name": "logits", "parameters": {"binary_data": True}}]),
    _json("JSON, output not as binary", outputs=[{"name": "logits", "parameters": {"binary_data": False}}]),
    _json("JSON, all outputs as binary", parameters={"binary_data_output": True}),
    _json("JSON, own parameters", parameters={"own": "text", "count": 3, "share": 0.5, "yes": True}),
    _json("JSON, the binding", parameters=BINDING),
    _json("JSON, the binding of another key", parameters={**BINDING, "lcve_salt": "0" * 32}),
    _json("JSON, part of a binding", parameters={"lcve_salt": "0" * 32}),
    _json("JSON, parameter that is an object", parameters={"own": {"a": 1}}),
    _json("JSON, parameters that are a list", parameters=[1]),
    _json("JSON, parameter null", parameters={"own": None}),
    _json("JSON, largest timeout", parameters={"timeout": 10_000_000}),
    _json("JSON, timeout that is text", parameters={"timeout": "soon"}),
    _json("JSON, priority", parameters={"priority": 1}),
    _json("JSON, sequence", parameters={"sequence_id": 5, "sequence_start": True}),
    _json("JSON, two best classes", outputs=[{"name": "logits", "parameters": {"classification": 2}}]),
    _json("JSON, fields that nobody knows", other=1),
    _json("JSON, largest batch", inputs=[tensor(shape=[BATCH, *SHAPE], data=list(CLIP[:BATCH].tobytes()))]),
    _binary("binary"),
    _binary("binary, output named", outputs=[{"name": "logits"}]),
    _binary("binary, output as binary", outputs=[{"name": "logits", "parameters": {"binary_data": True}}]),
    _binary("binary, id", id="7"),
    _raw("gzip of JSON", gzip.compress(_GOOD), Content_Encoding="gzip"),
    _raw("deflate of JSON", zlib.compress(_GOOD), Content_Encoding="deflate"),
    _raw(
        "gzip of binary",
        gzip.compress(_HEAD + CLIP[0].tobytes()),
        Content_Encoding="gzip",
        **{"Inference_Header_Content_Length": str(len(_HEAD))},
    ),
    _raw("gzip of the answer", _GOOD, Accept_Encoding="gzip"),
    _raw("chunked", (_GOOD[:100], _GOOD[100:])),
    _raw("with a content type of JSON", _GOOD, Content_Type="application/json"),
    _raw("with another content type", _GOOD, Content_Type="text/csv"),
    _raw("with a traceparent", _GOOD, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
_BAD_ONES: Final = (
    _json("unknown model", path="/v2/models/none/infer"),
    _json("unknown version", path=f"/v2/models/{MODEL}/versions/9/infer"),
    _json("version that is no number", path=f"/v2/models/{MODEL}/versions/x/infer"),
    _json("version 0", path=f"/v2/models/{MODEL}/versions/0/infer"),
    _json("wrong name of the input", inputs=[tensor(name="other")]),
    _json("no inputs", inputs=[]),
    _json("inputs missing", inputs=None),
    _json("inputs no list", inputs={"name": "clips"}),
    _json("input no object", inputs=[1]),
    _json("input twice", inputs=[tensor(), tensor()]),
    _json("input too much", inputs=[tensor(), tensor(name="other")]),
    _json("name missing", inputs=[tensor(name=None)]),
    _json("name a number", inputs=[tensor(name=7)]),
    _json("datatype missing", inputs=[tensor(datatype=None)]),
    _json("datatype unknown", inputs=[tensor(datatype="UINT9")]),
    _json("datatype in small letters", inputs=[tensor(datatype="uint8")]),
    _json("wrong datatype", inputs=[tensor(datatype="FP32")]),
    _json("shape missing", inputs=[tensor(shape=None)]),
    _json("shape no list", inputs=[tensor(shape=64)]),
    _json("shape of text", inputs=[tensor(shape=["1", *map(str, SHAPE)])]),
    _json("shape of fractions", inputs=[tensor(shape=[1.5, *SHAPE])]),
    _json("shape below zero", inputs=[tensor(shape=[-1, *SHAPE])]),
    _json("shape with a huge number", inputs=[tensor(shape=[2**40, *SHAPE])]),
    _json("shape beyond 64 bits", inputs=[tensor(shape=[2**70, *SHAPE])]),
    _json("wrong shape", inputs=[tensor(shape=[1, SHAPE[1], SHAPE[0]])]),
    _json("wrong number of axes", inputs=[tensor(shape=[1, SHAPE[0] * SHAPE[1]])]),
    _json("no batch axis", inputs=[tensor(shape=list(SHAPE))]),
    _json("empty shape", inputs=[tensor(shape=[])]),
    _json("batch of zero", inputs=[tensor(shape=[0, *SHAPE], data=[])]),
    _json(
        "batch above the largest",
        inputs=[tensor(shape=[MAX_BATCH + 1, *SHAPE], data=[0] * (MAX_BATCH + 1) * CLIP[0].size)],
    ),
    _json("data missing", inputs=[tensor(data=None)]),
    _json("data too short", inputs=[tensor(data=[1, 2, 3])]),
    _json("data too long", inputs=[tensor(data=[0] * (CLIP[0].size + 1))]),
    _json("data no list", inputs=[tensor(data="abc")]),
    _json("data of text", inputs=[tensor(data=["a"] * CLIP[0].size)]),
    _json("data of truth values", inputs=[tensor(data=[True] * CLIP[0].size)]),
    _json("data of fractions", inputs=[tensor(data=[0.5] * CLIP[0].size)]),
    _json("data above 255", inputs=[tensor(data=[256] * CLIP[0].size)]),
    _json("data below 0", inputs=[tensor(data=[-1] * CLIP[0].size)]),
    _json("data null", inputs=[tensor(data=[None] * CLIP[0].size)]),
    _json("id a number", id=7),
    _json("unknown output", outputs=[{"name": "other"}]),
    _json("output twice", outputs=[{"name": "logits"}, {"name": "logits"}]),
    _json("output without a name", outputs=[{}]),
    _json("outputs no list", outputs={"name": "logits"}),
    _json("classes below zero", outputs=[{"name": "logits", "parameters": {"classification": -1}}]),
    _raw("no body", b""),
    _raw("not JSON", b"clips"),
    _raw("JSON that ends early", _GOOD[:-2]),
    _raw("JSON and more", _GOOD + b"more"),
    _raw("JSON that is a list", b"[]"),
    _raw("JSON that is null", b"null"),
    _raw("JSON in Latin-1", b'{"id": "\xe9", ' + _GOOD[1:]),
    _raw("JSON nested without end", b'{"inputs":' + b"[" * 100_000),
    _binary("bytes too few", tail=CLIP[0].tobytes()[:-1]),
    _binary("bytes too many", tail=CLIP[0].tobytes() + b"x"),
    _binary("bytes missing", tail=b""),
    _binary("bytes and data", inputs=[binary(data=[1, 2, 3])]),
    _binary("size below the shape's", inputs=[binary(100)], tail=bytes(100)),
    _binary("size above the shape's", inputs=[binary(CLIP[0].nbytes + 1)], tail=bytes(CLIP[0].nbytes + 1)),
    _binary("size below zero", inputs=[binary(-1)]),
    _binary("size that is text", inputs=[binary(parameters={"binary_data_size": "24576"})]),
    _binary("header length too small", header=str(len(_HEAD) - 1)),
    _binary("header length too large", header=str(len(_HEAD) + 1)),
    _binary("header length above the body", header="99999999"),
    _binary("header length 0", header="0"),
    _binary("header length below zero", header="-5"),
    _binary("header length no number", header="many"),
    _binary("header length empty", header=""),
    _raw("binary without header length", _HEAD + CLIP[0].tobytes()),
    _raw("gzip that is none", _GOOD, Content_Encoding="gzip"),
    _raw("gzip that ends early", gzip.compress(_GOOD)[:-20], Content_Encoding="gzip"),
    _raw("encoding that nobody knows", _GOOD, Content_Encoding="own"),
    _raw("encoding of browsers", _GOOD, Content_Encoding="br"),
)
HTTP_CASES: Final = {
    "about": _ABOUT,
    "repository": _REPOSITORY,
    "memory": _MEMORY,
    "good": _GOOD_ONES,
    "bad": _BAD_ONES,
}
"""Cases by what they are about."""
