"""One suite for two servers: whoever can talk to Triton can talk to ``lcve serve``, with the client of his choice.

Every question is put to a real Triton first: what is expected is what it answered. Where ``lcve serve`` answers
otherwise, ``conformance/expected.py`` says so, and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import grpc
import numpy as np
import pytest
import tritonclient.grpc as client_grpc
import tritonclient.http as client_http
from google.protobuf import json_format
from tritonclient.utils import InferenceServerException, shared_memory

from lcve_deploy import EncryptedClip, open_session
from lcve_deploy.artifact import read_manifest
from lcve_deploy.protocol.binding import model_to_parameters
from lcve_deploy.protocol.config import Scheduling, model_config
from tests.conformance.expected import (
    CRASHES_TRITON,
    GRPC_CODES,
    GRPC_DIFFERENCES,
    HTTP_DIFFERENCES,
    HTTP_STATUS,
    expected_code,
    expected_status,
)
from tests.conformance.model import BATCH, CLASSES, CLIP, MAX_BATCH, MODEL, SHAPE
from tests.conformance.over_grpc import GRPC_CASES, GrpcCase, ask_grpc
from tests.conformance.over_http import HTTP_CASES, HttpCase, ask_http
from tests.conformance.servers import SERVERS, TRITON, Server, start
from tests.conftest import ORACLES, SALT, run_ok
from tests.support.artifacts import binding_of

pytestmark = pytest.mark.xdist_group("conformance")

TOLERANCE: Final = 1e-5


@pytest.fixture(scope="module")
def exported(key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a known salt: the binding is in the cases."""
    oracle, folder = ORACLES["v1_model_args"], tmp_path_factory.mktemp("known") / "service"
    run_ok(
        *("export", "--key", key_file, "--ckpt", oracle.path, "-o", folder),
        *(*oracle.flags, "--stride", 1, "--salt", SALT.hex()),
    )
    return folder


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with start(request.param, exported / "server", tmp_path_factory.mktemp("conformance")) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


@pytest.fixture(scope="module")
def logits(exported: Path) -> np.ndarray:
    """The right answer to all of ``CLIP``."""
    session = open_session(exported / "server")
    return session.run(EncryptedClip(values=CLIP, binding=binding_of(exported / "server")))


# Requests as they are on the wire


def listed(cases: dict[str, tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(group, case, id=f"{group}: {case.name}") for group, some in cases.items() for case in some]


@pytest.mark.parametrize(("group", "case"), listed(HTTP_CASES))
def test_http(server: Server, logits: np.ndarray, group: str, case: HttpCase) -> None:
    if server.kind == TRITON and case.name in CRASHES_TRITON:
        pytest.skip("Triton does not survive it")
    answer = ask_http(server.http, case)
    assert answer.status == expected_status(server.kind, group, case.name), answer.body[:500]
    if answer.status != 200:
        assert case.method == "HEAD" or answer.json["error"]
    elif group in ("good", "bad"):
        check_http_answer(answer, case, logits)


def check_http_answer(answer: Any, case: HttpCase, logits: np.ndarray) -> None:
    if "gzip" in answer.headers.get("content-encoding", "") or case.name in ("JSON in Latin-1", "data above 255"):
        return
    said = answer.json
    (output,) = said["outputs"]
    assert (said["model_name"], said["model_version"], output["name"]) == (MODEL, "1", "logits")
    if case.name == "JSON, two best classes":
        assert_best_two(output["datatype"], output["data"], logits[0])
        return
    assert (output["datatype"], output["shape"][1]) == ("FP32", CLASSES)
    tail = answer.body[int(answer.headers.get("inference-header-content-length", len(answer.body))) :]
    assert len(tail) == output.get("parameters", {}).get("binary_data_size", 0)
    values = np.frombuffer(tail, np.float32) if tail else np.array(output["data"])
    count = output["shape"][0]
    np.testing.assert_allclose(values.reshape(count, CLASSES), logits[:count], atol=TOLERANCE)


def assert_best_two(datatype: str, data: Any, logits: np.ndarray) -> None:
    assert datatype == "BYTES"
    best = np.argsort(-logits)[:2]
    assert [text.split(":")[1] for text in data] == [str(index) for index in best]
    np.testing.assert_allclose([float(text.split(":")[0]) for text in data], logits[best], atol=TOLERANCE)


@pytest.mark.parametrize(("group", "case"), listed(GRPC_CASES))
def test_grpc(server: Server, channel: grpc.Channel, logits: np.ndarray, group: str, case: GrpcCase) -> None:
    answer = ask_grpc(channel, case)
    assert answer.code == expected_code(server.kind, group, case.name), answer.details
    if answer.message is None:
        assert answer.details
    elif group == "good":
        check_grpc_answer(answer.message, case, logits)


def check_grpc_answer(message: Any, case: GrpcCase, logits: np.ndarray) -> None:
    (output,), (data,) = message.outputs, message.raw_output_contents
    assert (message.model_name, message.model_version, output.name) == (MODEL, "1", "logits")
    assert message.id == case.request.id
    if case.name == "two best classes":
        texts = [data[4:14].decode(), data[18:28].decode()]
        assert_best_two(output.datatype, texts, logits[0])
        return
    count = case.request.inputs[0].shape[0]
    assert (output.datatype, list(output.shape)) == ("FP32", [count, CLASSES])
    np.testing.assert_allclose(np.frombuffer(data, np.float32).reshape(-1, CLASSES), logits[:count], atol=TOLERANCE)


def test_every_expectation_is_of_a_case() -> None:
    """A misspelt name would expect nothing."""
    for cases, codes, differences in (
        (HTTP_CASES, HTTP_STATUS, HTTP_DIFFERENCES),
        (GRPC_CASES, GRPC_CODES, GRPC_DIFFERENCES),
    ):
        names = [case.name for some in cases.values() for case in some]
        said = [name for some in codes.values() for name in some]
        own = [name for difference in differences for name in difference.cases]
        for each in (names, said, own):
            assert len(each) == len(set(each))
        assert not {*said, *own} - set(names)
        assert all(difference.reason for difference in differences)


# What a server says of itself


def as_json(server: Server, path: str, body: dict[str, Any] | None = None) -> Any:
    method = "GET" if body is None else "POST"
    data = b"" if body is None else json.dumps(body).encode()
    return ask_http(server.http, HttpCase(name=path, method=method, path=path, body=data)).json


def test_server_metadata(server: Server) -> None:
    with client_http.InferenceServerClient(server.http) as http, client_grpc.InferenceServerClient(server.grpc) as rpc:
        said = http.get_server_metadata()
        assert rpc.get_server_metadata(as_json=True) == said
        assert http.is_server_live()
        assert http.is_server_ready()
        assert rpc.is_server_live()
        assert rpc.is_server_ready()
    assert said["name"]
    assert said["version"]
    needed = {"model_repository", "model_configuration", "system_shared_memory", "binary_tensor_data", "statistics"}
    assert needed <= set(said["extensions"])


def test_model_metadata(server: Server) -> None:
    expected = {
        "name": MODEL,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "clips", "datatype": "UINT8", "shape": [-1, *SHAPE]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, CLASSES]}],
    }
    with client_http.InferenceServerClient(server.http) as http, client_grpc.InferenceServerClient(server.grpc) as rpc:
        assert http.get_model_metadata(MODEL) == expected
        assert http.get_model_metadata(MODEL, "1") == expected
        over_grpc = rpc.get_model_metadata(MODEL, as_json=True)
        assert http.is_model_ready(MODEL)
        assert rpc.is_model_ready(MODEL, "1")
        assert not http.is_model_ready("none")
        assert not rpc.is_model_ready(MODEL, "9")
    for tensor in (*over_grpc["inputs"], *over_grpc["outputs"]):
        tensor["shape"] = [int(size) for size in tensor["shape"]]  # 64 bits are text in protobuf's JSON
    assert over_grpc == expected


def test_model_config(server: Server, exported: Path) -> None:
    """Both answer what the exporter wrote; a server may say more."""
    manifest = read_manifest(exported / "server")
    with client_http.InferenceServerClient(server.http) as http, client_grpc.InferenceServerClient(server.grpc) as rpc:
        over_http, over_grpc = http.get_model_config(MODEL), rpc.get_model_config(MODEL).config
    assert {name: value["string_value"] for name, value in over_http["parameters"].items()} == {
        name: value.string_value for name, value in over_grpc.parameters.items()
    }
    said = {name: value.string_value for name, value in over_grpc.parameters.items()}
    key = binding_of(exported / "server").key if server.kind == TRITON else None
    assert said.items() >= model_to_parameters(manifest.model, key).items()
    assert ("lcve_key_id" in said) == (server.kind == TRITON)
    ours = model_config(manifest.model, Scheduling(max_batch=MAX_BATCH), name=MODEL)
    for field in ("name", "platform", "backend", "max_batch_size", "input", "output", "default_model_filename"):
        assert getattr(over_grpc, field) == getattr(ours, field), field
    for field in ("name", "platform", "backend", "max_batch_size", "default_model_filename"):
        assert over_http[field] == getattr(ours, field), field
    for tensors, expected in ((over_http["input"], ours.input), (over_http["output"], ours.output)):
        (tensor,), (own,) = tensors, expected
        assert (tensor["name"], tensor["dims"]) == (own.name, list(own.dims))
        assert tensor["data_type"] == json_format.MessageToDict(own, preserving_proto_field_name=True)["data_type"]
    assert over_http["dynamic_batching"]["max_queue_delay_microseconds"] >= 0


def test_repository_index(server: Server) -> None:
    with client_http.InferenceServerClient(server.http) as http, client_grpc.InferenceServerClient(server.grpc) as rpc:
        over_http = http.get_model_repository_index()
        over_grpc = rpc.get_model_repository_index(as_json=True)["models"]
    for rows in (over_http, over_grpc):
        assert [{name: value for name, value in row.items() if value} for row in rows] == [
            {"name": MODEL, "version": "1", "state": "READY"}
        ]


def test_statistics_count_what_was_asked(server: Server) -> None:
    def counts() -> dict[str, Any]:
        with client_http.InferenceServerClient(server.http) as http:
            (model,) = http.get_inference_statistics(MODEL)["model_stats"]
        assert (model["name"], model["version"]) == (MODEL, "1")
        return dict(model)

    before = counts()
    with client_grpc.InferenceServerClient(server.grpc) as rpc:
        rpc.infer(MODEL, [as_input(client_grpc, CLIP[:BATCH])])
        with pytest.raises(InferenceServerException):
            rpc.infer(MODEL, [as_input(client_grpc, CLIP[:1].reshape(1, *reversed(SHAPE)))])
        (over_grpc,) = rpc.get_inference_statistics(MODEL, as_json=True)["model_stats"]
    after = counts()
    assert after["inference_count"] - before["inference_count"] == BATCH
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["last_inference"] >= before["last_inference"] > 1.7e12  # milliseconds
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        old, new = before["inference_stats"][name], after["inference_stats"][name]
        assert new["count"] - old["count"] == 1, name
        assert new["ns"] >= old["ns"], name
    assert over_grpc["inference_count"] == str(after["inference_count"])
    assert {batch["batch_size"] for batch in after["batch_stats"]} >= {1, BATCH}


# The clients that everyone uses, unmodified


def as_input(module: ModuleType, clips: np.ndarray, name: str = "clips", datatype: str = "UINT8", **how: Any) -> Any:
    value = module.InferInput(name, list(clips.shape), datatype)
    value.set_data_from_numpy(clips, **how)
    return value


@contextlib.contextmanager
def client_of(server: Server, module: ModuleType) -> Iterator[Any]:
    address = server.http if module is client_http else server.grpc
    with module.InferenceServerClient(address) as client:
        yield client


both = pytest.mark.parametrize("module", [client_http, client_grpc], ids=["HTTP", "gRPC"])
Infer = Callable[[Any, ModuleType], Any]

WAYS: Final[dict[str, Infer]] = {
    "plain": lambda client, module: client.infer(MODEL, [as_input(module, CLIP)]),
    "version": lambda client, module: client.infer(MODEL, [as_input(module, CLIP)], model_version="1"),
    "output": lambda client, module: client.infer(
        MODEL, [as_input(module, CLIP)], outputs=[module.InferRequestedOutput("logits")]
    ),
    "id": lambda client, module: client.infer(MODEL, [as_input(module, CLIP)], request_id="a request"),
    "parameters": lambda client, module: client.infer(
        MODEL, [as_input(module, CLIP)], parameters={"own": "text", "count": 3, "yes": True}
    ),
    "headers": lambda client, module: client.infer(MODEL, [as_input(module, CLIP)], headers={"x-own": "text"}),
}


@both
@pytest.mark.parametrize("way", WAYS)
def test_clients_get_the_right_logits(server: Server, logits: np.ndarray, module: ModuleType, way: str) -> None:
    with client_of(server, module) as client:
        result = WAYS[way](client, module)
    answer = result.get_response(as_json=True) if module is client_grpc else result.get_response()
    assert answer.get("id", "") == ("a request" if way == "id" else "")
    assert result.as_numpy("logits").dtype == np.float32
    np.testing.assert_allclose(result.as_numpy("logits"), logits, atol=TOLERANCE)


@pytest.mark.parametrize("sent", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("wanted", [True, False], ids=["binary back", "JSON back"])
def test_http_tensors_are_binary_or_json(server: Server, logits: np.ndarray, sent: bool, wanted: bool) -> None:
    with client_of(server, client_http) as client:
        result = client.infer(
            MODEL,
            [as_input(client_http, CLIP, binary_data=sent)],
            outputs=[client_http.InferRequestedOutput("logits", binary_data=wanted)],
        )
    (output,) = result.get_response()["outputs"]
    assert ("data" in output) is not wanted
    np.testing.assert_allclose(result.as_numpy("logits"), logits, atol=TOLERANCE)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("direction", ["request", "response"])
def test_compression_over_http(server: Server, logits: np.ndarray, algorithm: str, direction: str) -> None:
    with client_of(server, client_http) as client:
        how = {f"{direction}_compression_algorithm": algorithm}
        result = client.infer(MODEL, [as_input(client_http, CLIP)], **how)
    np.testing.assert_allclose(result.as_numpy("logits"), logits, atol=TOLERANCE)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_over_grpc(server: Server, logits: np.ndarray, algorithm: str) -> None:
    with client_of(server, client_grpc) as client:
        result = client.infer(MODEL, [as_input(client_grpc, CLIP)], compression_algorithm=algorithm)
    np.testing.assert_allclose(result.as_numpy("logits"), logits, atol=TOLERANCE)


def test_async_over_http(server: Server, logits: np.ndarray) -> None:
    with client_http.InferenceServerClient(server.http, concurrency=4) as client:
        asked = [client.async_infer(MODEL, [as_input(client_http, clip[None])]) for clip in CLIP]
        answers = [each.get_result().as_numpy("logits")[0] for each in asked]
    np.testing.assert_allclose(answers, logits, atol=TOLERANCE)


def test_async_over_grpc(server: Server, logits: np.ndarray) -> None:
    done: queue.Queue[Any] = queue.Queue()
    with client_of(server, client_grpc) as client:
        for number, clip in enumerate(CLIP):
            client.async_infer(
                MODEL,
                [as_input(client_grpc, clip[None])],
                callback=lambda result, error: done.put((result, error)),
                request_id=str(number),
            )
        answers = [done.get(timeout=20) for _ in CLIP]
    assert all(error is None for _, error in answers)
    for result, _ in answers:
        number = int(result.get_response().id)
        np.testing.assert_allclose(result.as_numpy("logits")[0], logits[number], atol=TOLERANCE)


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_asyncio(server: Server, logits: np.ndarray, name: str) -> None:
    import tritonclient.grpc.aio
    import tritonclient.http.aio

    module, address = {
        "http": (tritonclient.http.aio, server.http),
        "grpc": (tritonclient.grpc.aio, server.grpc),
    }[name]

    async def ask() -> list[Any]:
        async with module.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            return list(await asyncio.gather(*(client.infer(MODEL, [as_input(module, clip[None])]) for clip in CLIP)))

    answers = [result.as_numpy("logits")[0] for result in asyncio.run(ask())]
    np.testing.assert_allclose(answers, logits, atol=TOLERANCE)


def test_a_stream_answers_in_order_and_goes_on_after_errors(server: Server, logits: np.ndarray) -> None:
    done: queue.Queue[Any] = queue.Queue()
    wrong = CLIP[:1].reshape(1, *reversed(SHAPE))
    with client_of(server, client_grpc) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        for number, clips in enumerate((CLIP[:1], wrong, CLIP[1:2], CLIP)):
            client.async_stream_infer(MODEL, [as_input(client_grpc, clips)], request_id=str(number))
            result, error = done.get(timeout=20)
            if clips is wrong:
                assert "shape" in error.message()
                continue
            assert error is None
            assert result.get_response().id == str(number)
        client.async_stream_infer("none", [as_input(client_grpc, CLIP[:1])])
        assert "none" in done.get(timeout=20)[1].message()
        client.stop_stream()
    np.testing.assert_allclose(result.as_numpy("logits"), logits, atol=TOLERANCE)


def test_a_stream_says_that_an_answer_is_the_last(server: Server) -> None:
    done: queue.Queue[Any] = queue.Queue()
    with client_of(server, client_grpc) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        client.async_stream_infer(MODEL, [as_input(client_grpc, CLIP)], enable_empty_final_response=True)
        result, error = done.get(timeout=20)
        client.stop_stream()
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param is True
    assert done.empty()


# Shared memory


@pytest.fixture
def regions(server: Server, module: ModuleType) -> Iterator[tuple[Any, str, Any]]:
    """A region with all clips, and one for their logits, both known to the server; the client, too."""
    name = f"lcve-{uuid.uuid4().hex}"
    clips = shared_memory.create_shared_memory_region("clips", f"/{name}-in", CLIP.nbytes)
    logits = shared_memory.create_shared_memory_region("logits", f"/{name}-out", MAX_BATCH * CLASSES * 4)
    try:
        shared_memory.set_shared_memory_region(clips, [CLIP])
        with client_of(server, module) as client:
            client.register_system_shared_memory("clips", f"/{name}-in", CLIP.nbytes)
            client.register_system_shared_memory("logits", f"/{name}-out", MAX_BATCH * CLASSES * 4)
            yield client, name, logits
            until_free(client.unregister_system_shared_memory, "clips")
            until_free(client.unregister_system_shared_memory)
            status = client.get_system_shared_memory_status(**({"as_json": True} if module is client_grpc else {}))
            assert not status
    finally:
        shared_memory.destroy_shared_memory_region(clips)
        shared_memory.destroy_shared_memory_region(logits)


def until_free(unregister: Callable[..., object], *names: str) -> None:
    """Triton lets go of a region a moment after it has answered, and says until then that it is in use."""
    for left in reversed(range(1000)):
        try:
            unregister(*names)
        except InferenceServerException as error:
            if "currently in use" not in str(error) or not left:
                raise
            time.sleep(0.02)
        else:
            return


def in_region(module: ModuleType, size: int = CLIP.nbytes, offset: int = 0, count: int = MAX_BATCH) -> Any:
    value = module.InferInput("clips", [count, *SHAPE], "UINT8")
    value.set_shared_memory("clips", size, offset=offset)
    return value


def out_region(module: ModuleType, size: int, offset: int = 0) -> Any:
    value = module.InferRequestedOutput("logits")
    value.set_shared_memory("logits", size, offset=offset)
    return value


@both
def test_clips_and_logits_in_shared_memory(
    regions: tuple[Any, str, Any], logits: np.ndarray, module: ModuleType
) -> None:
    client, name, out = regions
    client.infer(MODEL, [in_region(module)], outputs=[out_region(module, logits.nbytes)])
    values = shared_memory.get_contents_as_numpy(out, np.float32, [MAX_BATCH, CLASSES])
    np.testing.assert_allclose(values, logits, atol=TOLERANCE)
    status = client.get_system_shared_memory_status(**({"as_json": True} if module is client_grpc else {}))
    names = status["regions"] if module is client_grpc else [region["name"] for region in status]
    assert set(names) == {"clips", "logits"}
    assert f"/{name}-in" in json.dumps(status)


@both
def test_parts_of_regions(regions: tuple[Any, str, Any], logits: np.ndarray, module: ModuleType) -> None:
    client, _, out = regions
    clip = CLIP[0].nbytes
    one_in, one_out = in_region(module, clip, 2 * clip, count=1), out_region(module, 4 * CLASSES, 4 * CLASSES)
    client.infer(MODEL, [one_in], outputs=[one_out])
    values = shared_memory.get_contents_as_numpy(out, np.float32, [MAX_BATCH, CLASSES])
    np.testing.assert_allclose(values[1], logits[2], atol=TOLERANCE)
    result = client.infer(MODEL, [in_region(module)])
    np.testing.assert_allclose(result.as_numpy("logits"), logits, atol=TOLERANCE)


OUT: Final = MAX_BATCH * CLASSES * 4
BAD_REGIONS: Final[dict[str, Callable[[Any, ModuleType, str], Any]]] = {
    "name taken": lambda client, module, name: client.register_system_shared_memory("clips", f"/{name}-in", 1),
    "larger than it is": lambda client, module, name: client.register_system_shared_memory("x", f"/{name}-in", 2**40),
    "offset beyond": lambda client, module, name: client.register_system_shared_memory(
        "x", f"/{name}-in", 10, offset=2**30
    ),
    "no bytes": lambda client, module, name: client.register_system_shared_memory("x", f"/{name}-in", 0),
    "output region too small": lambda client, module, name: client.infer(
        MODEL, [in_region(module)], outputs=[out_region(module, OUT - 4)]
    ),
    "output beyond its region": lambda client, module, name: client.infer(
        MODEL, [in_region(module)], outputs=[out_region(module, OUT, 4)]
    ),
    "input beyond its region": lambda client, module, name: client.infer(MODEL, [in_region(module, offset=1)]),
    "input size below its shape": lambda client, module, name: client.infer(MODEL, [in_region(module, 100)]),
    "input size above its shape": lambda client, module, name: client.infer(MODEL, [in_region(module, count=1)]),
    "another model": lambda client, module, name: client.infer("none", [in_region(module)]),
}


@both
@pytest.mark.parametrize("what", BAD_REGIONS)
def test_bad_regions_are_refused(
    regions: tuple[Any, str, Any], logits: np.ndarray, module: ModuleType, what: str
) -> None:
    client, name, _ = regions
    with pytest.raises(InferenceServerException):
        BAD_REGIONS[what](client, module, name)
    result = client.infer(MODEL, [in_region(module)])
    np.testing.assert_allclose(result.as_numpy("logits"), logits, atol=TOLERANCE)


# Errors, as clients meet them

ERRORS: Final[dict[str, tuple[Infer, str, str]]] = {
    "unknown model": (lambda client, module: client.infer("none", [as_input(module, CLIP)]), "404", "NOT_FOUND"),
    "unknown version": (
        lambda client, module: client.infer(MODEL, [as_input(module, CLIP)], model_version="9"),
        "404",
        "NOT_FOUND",
    ),
    "wrong name": (
        lambda client, module: client.infer(MODEL, [as_input(module, CLIP, "other")]),
        "400",
        "INVALID_ARGUMENT",
    ),
    "no input": (lambda client, module: client.infer(MODEL, []), "400", "INVALID_ARGUMENT"),
    "wrong datatype": (
        lambda client, module: client.infer(MODEL, [as_input(module, CLIP.astype(np.int8), datatype="INT8")]),
        "400",
        "INVALID_ARGUMENT",
    ),
    "wrong shape": (
        lambda client, module: client.infer(MODEL, [as_input(module, CLIP.reshape(-1, *reversed(SHAPE)))]),
        "400",
        "INVALID_ARGUMENT",
    ),
    "batch above the largest": (
        lambda client, module: client.infer(MODEL, [as_input(module, np.concatenate([CLIP, CLIP]))]),
        "400",
        "INVALID_ARGUMENT",
    ),
    "batch of zero": (
        lambda client, module: client.infer(MODEL, [as_input(module, CLIP[:0])]),
        "400",
        "INVALID_ARGUMENT",
    ),
    "unknown output": (
        lambda client, module: client.infer(
            MODEL, [as_input(module, CLIP)], outputs=[module.InferRequestedOutput("other")]
        ),
        "400",
        "INVALID_ARGUMENT",
    ),
}


@both
@pytest.mark.parametrize("what", ERRORS)
def test_errors_reach_clients(server: Server, module: ModuleType, what: str) -> None:
    ask, status, code = ERRORS[what]
    with client_of(server, module) as client:
        with pytest.raises(InferenceServerException) as caught:
            ask(client, module)
        assert client.is_server_live()
    assert caught.value.status() == (status if module is client_http else f"StatusCode.{code}")
    assert caught.value.message()


# Connections


def test_a_connection_outlives_errors(server: Server, logits: np.ndarray) -> None:
    """One connection, kept alive: an error is answered in full, and so is what comes after."""
    import http.client

    cases = {case.name: case for some in HTTP_CASES.values() for case in some}
    connection = http.client.HTTPConnection(server.http, timeout=20)
    for name in ("binary", "not JSON", "unknown model", "bytes too few", "header length above the body", "binary"):
        case = cases[name]
        connection.request(case.method, case.path, case.body, dict(case.headers))
        response = connection.getresponse()
        body = response.read()
        assert (response.status == 200) is (name == "binary"), body
    np.testing.assert_allclose(json.loads(body)["outputs"][0]["data"], logits[0], atol=TOLERANCE)
    connection.close()


@pytest.mark.parametrize("sent", [0, 100, 1000], ids=["no body", "part of the JSON", "part of the tensor"])
def test_a_body_that_ends_early(server: Server, sent: int) -> None:
    """The client goes away in the middle: nobody waits for the rest, and the server goes on."""
    cases = {case.name: case for some in HTTP_CASES.values() for case in some}
    case = cases["binary"]
    lines = [
        f"POST {case.path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(case.body)}",  # type: ignore[arg-type]
        *(f"{name}: {value}" for name, value in case.headers.items()),
    ]
    host, _, port = server.http.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + case.body[:sent])  # type: ignore[index]
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            assert not connection.recv(4096).startswith(b"HTTP/1.1 200")
    assert ask_http(server.http, case).status == 200


def test_many_at_once_get_their_own_answers(server: Server, logits: np.ndarray) -> None:
    """Batching puts clips of several clients into one run; each gets his own."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> None:
        start, count = number % MAX_BATCH, 1 + number % 2
        clips = CLIP[start : start + count]
        module = (client_http, client_grpc)[number % 2]
        with client_of(server, module) as client:
            result = client.infer(MODEL, [as_input(module, clips)])
        np.testing.assert_allclose(result.as_numpy("logits"), logits[start : start + count], atol=TOLERANCE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(40)))


def test_the_server_is_still_there(server: Server, channel: grpc.Channel) -> None:
    """Last in the file, after all that was asked of it."""
    assert ask_http(server.http, HttpCase(name="ready", method="GET", path="/v2/health/ready")).status == 200
    assert ask_grpc(channel, GRPC_CASES["about"][1]).message.ready
