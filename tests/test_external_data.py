"""External data stays inside: what a hostile graph can name, and that nothing native reads a graph before the check."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lcve_deploy import SessionOptions, open_session, verify_server
from lcve_deploy.artifact import record_files
from lcve_deploy.artifact.digests import FileRecord
from lcve_deploy.artifact.external import find_external
from lcve_deploy.artifact.graph_files import read_graph
from lcve_deploy.artifact.wire import MAX_FIELDS, write_bytes, write_varint
from lcve_deploy.errors import ArtifactError
from tests.conftest import run_error
from tests.support.artifacts import edit_json as edit
from tests.support.artifacts import rebind_all

VALUES = 4
SECRET = np.arange(VALUES, dtype=np.float32) + 100
Change = Callable[[Path], object]


def external(name: str, entries: dict[str, str], *, shape: tuple[int, ...] = (VALUES,)) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def at(location: str, offset: int = 0, length: int = 4 * VALUES) -> dict[str, str]:
    return {"location": location, "offset": str(offset), "length": str(length)}


def model(
    *initializers: TensorProto,
    nodes: list[onnx.NodeProto] | None = None,
    sparse: list[onnx.SparseTensorProto] | None = None,
    **more: object,
) -> onnx.ModelProto:
    """x + w."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [VALUES]) for name in "xy")
    add = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([*(nodes or []), add], "g", [x], [y], initializers, sparse_initializer=sparse or [])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def write(folder: Path, graph: onnx.ModelProto | bytes) -> Path:
    """A graph in a folder of its own, next to a file with a secret."""
    (folder / "server").mkdir()
    (folder / "secret").write_bytes(SECRET.tobytes())
    path = folder / "server/model.onnx"
    path.write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
    return path


def linked(name: str, target: str) -> Change:
    return lambda server: (server / name).symlink_to(target)


STOLEN = external("v", at("../secret"))
IN_CONSTANT = helper.make_node("Constant", [], ["w"], value=STOLEN)
BRANCH = helper.make_graph(
    [helper.make_node("Identity", ["v"], ["o"])],
    "branch",
    [],
    [helper.make_tensor_value_info("o", TensorProto.FLOAT, [VALUES])],
    [STOLEN],
)
IF = helper.make_node("If", ["c"], ["w"], then_branch=BRANCH, else_branch=BRANCH)
FUNCTION = helper.make_function("f", "F", [], ["w"], [IN_CONSTANT], [helper.make_opsetid("", 17)])
LISTS = helper.make_node("Custom", [], ["w"], domain="f", values=[STOLEN])
CONTEXT = helper.make_node("EPContext", [], ["w"], domain="com.microsoft", ep_cache_context="../secret")


def sparse() -> onnx.SparseTensorProto:
    value = onnx.SparseTensorProto(dims=[VALUES])
    value.values.CopyFrom(external("w", at("../secret")))
    value.indices.CopyFrom(numpy_helper.from_array(np.arange(VALUES)))
    return value


def in_training() -> onnx.ModelProto:
    graph = model(external("w", at("w")))
    graph.training_info.add().initialization.CopyFrom(BRANCH)
    return graph


def with_values_too() -> TensorProto:
    tensor = external("w", at("w"))
    tensor.raw_data = SECRET.tobytes()
    return tensor


def twice_the_key() -> TensorProto:
    tensor = external("w", at("w"))
    tensor.external_data.add(key="location", value="../secret")
    return tensor


def without_location_flag() -> TensorProto:
    tensor = external("w", at("../secret"))
    tensor.ClearField("data_location")
    return tensor


def elsewhere(entries: dict[str, str]) -> onnx.ModelProto:
    return model(external("w", entries))


HOSTILE: dict[str, tuple[onnx.ModelProto | bytes, str]] = {
    "parent": (elsewhere(at("../secret")), "not the name of a file next to the graph"),
    "parent within": (elsewhere(at("a/../../secret")), "not the name of a file"),
    "absolute": (elsewhere(at("/etc/passwd")), "not the name of a file"),
    "this process": (elsewhere(at("/proc/self/mem")), "not the name of a file"),
    "memory of the runtime": (elsewhere(at("*/_ORT_MEM_ADDR_/*")), "not the name of a file"),
    "a subfolder": (elsewhere(at("sub/w")), "not the name of a file"),
    "this folder": (elsewhere(at(".")), "is not a path|not the name|not listed|is not a regular file"),
    "the parent folder": (elsewhere(at("..")), "not the name of a file"),
    "Windows": (elsewhere(at("..\\secret")), "not the name of a file"),
    "NUL": (elsewhere(at("w\0/../secret")), "not the name of a file"),
    "no location": (elsewhere({"offset": "0"}), "not the name of a file"),
    "key twice": (model(twice_the_key()), "unexpected entry 'location'"),
    "unknown key": (elsewhere({**at("w"), "prepacked_0": "x|0|8|"}), "unexpected entry 'prepacked_0'"),
    "no flag": (model(without_location_flag()), "without one name and one data location"),
    "values too": (model(with_values_too()), "which has values of its own"),
    "constant": (model(nodes=[IN_CONSTANT]), "not an initializer of the main graph"),
    "list of tensors": (model(nodes=[LISTS]), "not an initializer of the main graph"),
    "subgraph": (model(nodes=[IF]), "not an initializer of the main graph"),
    "function": (model(functions=[FUNCTION]), "not an initializer of the main graph"),
    "sparse": (model(sparse=[sparse()]), "not an initializer of the main graph"),
    "training": (in_training(), "not an initializer of the main graph"),
    "a context of an execution provider": (model(nodes=[CONTEXT]), "EPContext, which reads a file"),
    "two of one name": (model(external("w", at("w")), external("w", at("w"))), "two initializers of one name"),
    "negative offset": (elsewhere(at("w", -4)), "offset or length is not a number"),
    "fraction": (elsewhere({**at("w"), "offset": "1.5"}), "offset or length is not a number"),
    "length of another shape": (elsewhere(at("w", 0, 8)), "8 bytes, expected 16 by its shape"),
    "past the end": (elsewhere(at("w", 4)), "bytes 4 to 20 of w for w, which has 16 bytes"),
    "far past the end": (elsewhere(at("w", 2**62)), "which has 16 bytes"),
    "a shape beyond any file": (model(external("w", at("w"), shape=(2**62, 2**62))), "bytes, expected"),
    "many axes": (model(external("w", at("w"), shape=(1,) * 17)), "with 17 axes"),
    "missing file": (elsewhere(at("other")), "other is missing"),
    "the format of ONNX Runtime": (b"\x08\x00\x00\x00ORTM" + bytes(100), "ONNX Runtime's own format"),
    "nothing": (b"", "without a graph"),
    "text": (b"nothing of a graph" * 20, "cannot be used as an ONNX graph"),
}


@pytest.mark.parametrize(("graph", "says"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])
def test_a_graph_that_names_what_it_must_not_is_refused(
    graph: onnx.ModelProto | bytes, says: str, mapped: bool, tmp_path: Path
) -> None:
    path = write(tmp_path, graph)
    (path.parent / "w").write_bytes(SECRET.tobytes())
    with pytest.raises(ArtifactError, match=says):
        read_graph(path, mapped=mapped)


LINKS: dict[str, tuple[Change, str]] = {
    "link to outside": (linked("w", "../secret"), "w is a link"),
    "link within": (
        lambda server: ((server / "v").write_bytes(SECRET.tobytes()), linked("w", "v")(server)),
        "w is a link",
    ),
    "link to nothing": (linked("w", "nowhere"), "w is a link"),
    "link to a device": (linked("w", "/dev/zero"), "w is a link"),
    "folder": (lambda server: (server / "w").mkdir(), "w is not a regular file"),
    "pipe": (lambda server: os.mkfifo(server / "w"), "w is not a regular file"),
}


@pytest.mark.parametrize(("change", "says"), LINKS.values(), ids=LINKS)
def test_external_data_is_a_regular_file_and_no_link(change: Change, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, elsewhere(at("w")))
    change(path.parent)
    with pytest.raises(ArtifactError, match=says):
        read_graph(path)


def test_the_graph_itself_is_no_link(tmp_path: Path) -> None:
    path = write(tmp_path, elsewhere(at("w")))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"model\.onnx is a link"):
        read_graph(path)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    path = write(tmp_path, elsewhere(at("w")))
    (path.parent / "w").write_bytes(SECRET.tobytes())
    (tmp_path / "current").symlink_to("server")
    (tensor,) = read_graph(tmp_path / "current/model.onnx").external
    assert (tensor.name, tensor.location, tensor.offset, tensor.length, tensor.shape) == ("w", "w", 0, 16, (VALUES,))


def test_a_file_that_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, elsewhere(at("w")))
    (path.parent / "w").write_bytes(SECRET.tobytes())
    records = record_files(path.parent)
    assert read_graph(path, records).names == {"model.onnx", "w"}
    with pytest.raises(ArtifactError, match="w is not listed"):
        read_graph(path, {"model.onnx": records["model.onnx"]})
    with pytest.raises(ArtifactError, match="w has a different SHA-256"):
        read_graph(path, {**records, "w": FileRecord(bytes=16, sha256="0" * 64)})


def test_the_initializers_that_onnx_finds_are_found(exported: Path) -> None:
    path = exported / "server/model.onnx"
    graph = onnx.load(path, load_external_data=False).graph
    expected = {
        tensor.name: (tuple(tensor.dims), tensor.data_type, {entry.key: entry.value for entry in tensor.external_data})
        for tensor in graph.initializer
        if tensor.external_data
    }
    found = find_external(path.read_bytes())
    assert {tensor.name for tensor in found} == set(expected)
    for tensor in found:
        shape, data_type, entries = expected[tensor.name]
        assert (tensor.shape, tensor.data_type) == (shape, data_type)
        assert {key: entries[key] for key in ("location", "offset", "length")} == at(
            tensor.location, tensor.offset, tensor.length
        )


def test_a_graph_of_endless_fields_or_depth_is_refused(tmp_path: Path) -> None:
    many = write_bytes(7, write_varint(0, 99) * (MAX_FIELDS + 1))
    with pytest.raises(ValueError, match=f"more than {MAX_FIELDS} fields"):
        find_external(many)
    deep = b""
    for _ in range(200):  # a graph, a node, an attribute, a graph, ...
        deep = write_bytes(6, write_bytes(1, write_bytes(5, deep)))
    with pytest.raises(ValueError, match="nested deeper"):
        find_external(write_bytes(7, write_bytes(1, write_bytes(5, deep))))


@pytest.mark.parametrize("end", range(0, 400, 7))
def test_a_graph_that_is_cut_is_refused_or_names_nothing_new(end: int) -> None:
    whole = elsewhere(at("w")).SerializeToString()
    with contextlib.suppress(ValueError):
        assert find_external(whole[:end]) in ((), find_external(whole))


def steal(server: Path) -> None:
    """Make the artifact's graph name a file outside, in an unsigned artifact whose digests are right."""
    graph = onnx.load(server / "model.onnx", load_external_data=False)
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name == "norm.bias")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in at("../secret", 0, 4 * tensor.dims[0]).items():
        tensor.external_data.add(key=key, value=value)
    (server / "model.onnx").write_bytes(graph.SerializeToString())
    (server.parent / "secret").write_bytes(bytes(4 * tensor.dims[0]))
    record = record_files(server)["model.onnx"]
    edit(server / "manifest.json", lambda m: m["files"].update({"model.onnx": vars(record)}))
    rebind_all(server.parent)


OPENINGS: dict[str, Callable[[Path, Path], str]] = {
    "session": lambda server, out: _message(lambda: open_session(server)),
    "server": lambda server, out: _message(lambda: open_session(server, SessionOptions(mapped=False))),
    "probe": lambda server, out: _message(lambda: verify_server(server)),
    "verify": lambda server, out: run_error("verify", server),
    "build openvino": lambda server, out: run_error("build", server, "--runtime", "openvino"),
    "build onnxruntime": lambda server, out: run_error("build", server, "--runtime", "onnxruntime"),
    "triton": lambda server, out: run_error("triton", f"m={server}", "-o", out),
}


def _message(work: Callable[[], object]) -> str:
    with pytest.raises(ArtifactError) as caught:
        work()
    return str(caught.value)


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_no_native_code_reads_a_graph_that_names_a_file_outside(
    opening: Callable[[Path, Path], str], artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    steal(artifact / "server")
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("ONNX Runtime was called"))
    monkeypatch.setattr(openvino, "Core", lambda: pytest.fail("OpenVINO was called"))
    assert "'../secret', which is not the name of a file next to the graph" in opening(
        artifact / "server", tmp_path / "o"
    )
    assert not (tmp_path / "o").exists()
