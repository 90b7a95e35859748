"""The package against docs/reference/vectors.json, which another program wrote: see second_client."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import ClipFile, ClipGeometry, Layout, PlainClip, SecurityKey, Views, encrypt
from lcve_deploy.cipher.clips import binding_of
from lcve_deploy.cipher.outputs import to_key_order, to_plain_order
from lcve_deploy.clipfile import read_clip_file, write_clip_file
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.model.predictions import ProblemType, predictions
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.video.decode import to_rgb
from lcve_deploy.video.orientation import from_exif, from_matrix
from lcve_deploy.video.sampling import crop_offsets, frame_indices
from tests.support import second_client

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs/reference/vectors.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
SALT = bytes.fromhex(VECTORS["salt"])


@pytest.fixture
def key() -> SecurityKey:
    return SecurityKey(bytes.fromhex(VECTORS["secret"]))


def digest(order: np.ndarray) -> dict[str, Any]:
    return {"begins": order[:6].tolist(), "sha256": hashlib.sha256(order.astype("<u4").tobytes()).hexdigest()}


def label_order(key: SecurityKey, classes: int) -> np.ndarray:
    geometry = ClipGeometry.parse(VECTORS["orders"]["geometry"])
    order = derive_orders(key, salt=SALT, geometry=geometry, classes=classes).label_order
    assert order is not None
    return order


def small_clip(key: SecurityKey) -> tuple[ClipFile, np.ndarray]:
    said = VECTORS["clip_file"]
    geometry = ClipGeometry.parse(said["geometry"])
    plain = np.frombuffer(bytes.fromhex(said["plain_hex"]), np.uint8).reshape(1, *geometry.clip_shape)
    orders = derive_orders(key, salt=SALT, geometry=geometry)
    clip = encrypt(PlainClip(values=plain), orders, layout=said["layout"])
    return ClipFile(clip=clip, views=Views.parse(said["views"])), plain


def test_the_file_is_what_the_second_client_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == second_client.text()


def test_the_second_client_knows_nothing_of_the_package() -> None:
    assert "lcve_deploy" not in Path(second_client.__file__).read_text(encoding="utf-8").split('"""', 2)[2]


def test_keys(key: SecurityKey, tmp_path: Path) -> None:
    key.write(tmp_path / "key.bin")
    assert (tmp_path / "key.bin").read_bytes().hex() == VECTORS["key"]["file"]
    assert key.key_id == VECTORS["key"]["id"]
    derived = key.derive(VECTORS["derived_key"]["name"])
    assert derived.key_id == VECTORS["derived_key"]["id"]


def test_orders(key: SecurityKey) -> None:
    said = VECTORS["orders"]
    geometry = ClipGeometry.parse(said["geometry"])
    orders = derive_orders(key, salt=SALT, geometry=geometry, classes=said["classes"])
    assert digest(orders.cube_order) == said["K1"]
    assert digest(orders.pixel_order) == said["K2"]
    assert orders.label_order is not None
    assert digest(orders.label_order) == said["K3"]


def test_draws_that_would_favour_small_numbers_are_thrown_away(key: SecurityKey) -> None:
    """So seldom that no order of a usual size shows it; this one has such a draw."""
    said = VECTORS["rejected_draws"]
    (rejected,) = said["rejected"]
    assert rejected["draw"] >= 2**32 - 2**32 % rejected["bound"]
    order = label_order(key, said["classes"])
    assert digest(order) == said["K3"]


@pytest.mark.parametrize("said", VECTORS["clips"], ids=lambda said: said["geometry"])
def test_clips(key: SecurityKey, said: dict[str, Any]) -> None:
    """Of one, two, three and four channels, and of cubes with three different sides."""
    geometry = ClipGeometry.parse(said["geometry"])
    clip = (np.arange(geometry.cubes * geometry.values) * 7919 % 251).astype(np.uint8).reshape(geometry.clip_shape)
    orders = derive_orders(key, salt=SALT, geometry=geometry)
    assert hashlib.sha256(clip.tobytes()).hexdigest() == said["plain_sha256"]
    for layout in Layout:
        values = encrypt(PlainClip(values=clip), orders, layout=layout).values
        assert hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest() == said[f"{layout}_sha256"]


def test_labels(key: SecurityKey) -> None:
    said = VECTORS["labels"]
    order = label_order(key, said["classes"])
    assert order.tolist() == said["K3"]
    received = np.array(said["received"])
    plain = np.empty_like(received)
    plain[..., order] = received
    names = tuple(map(str, range(said["classes"])))
    found = predictions(plain, names, ProblemType.SINGLE_LABEL, top=said["classes"])
    np.testing.assert_allclose(
        [p.probability or 0.0 for p in sorted(found, key=lambda p: p.index)], said["probabilities"], rtol=1e-12
    )


def test_tokens(key: SecurityKey) -> None:
    said = VECTORS["tokens"]
    orders = derive_orders(key, salt=SALT, geometry=ClipGeometry.parse(said["geometry"]))
    assert orders.cube_order.tolist() == said["K1"]
    received, plain = np.array(said["received"]), np.array(said["plain"])
    np.testing.assert_array_equal(to_plain_order(received, orders, per_token=True), plain)
    np.testing.assert_array_equal(to_key_order(plain, orders, per_token=True), received)
    np.testing.assert_array_equal(received[: said["prefix"]], plain[: said["prefix"]])


@pytest.mark.parametrize("said", VECTORS["sampling"], ids=lambda said: "-".join(map(str, list(said.values())[:5])))
def test_sampling(said: dict[str, Any]) -> None:
    preprocess = Preprocess(
        frames=said["frames"],
        stride=said["stride"],
        sampling=Sampling(said["sampling"]),
        short_side=32,
        crop=(32, 32),
    )
    assert frame_indices(said["total"], preprocess, said["views"]) == said["indices"]


@pytest.mark.parametrize("said", VECTORS["resizing"], ids=lambda said: f"{said['height']}x{said['width']}")
def test_resizing(said: dict[str, Any]) -> None:
    import av

    preprocess = Preprocess(frames=8, short_side=said["short_side"], crop=(1, 1))
    frame = av.VideoFrame(said["width"], said["height"], "rgb24")
    assert list(to_rgb(frame, preprocess, 1, "a").shape[:2]) == said["resized"]


@pytest.mark.parametrize("said", VECTORS["crops"], ids=lambda said: f"{said['height']}x{said['width']}-{said['views']}")
def test_crops(said: dict[str, Any]) -> None:
    corners = crop_offsets(said["height"], said["width"], tuple(said["crop"]), said["views"])
    assert [list(corner) for corner in corners] == said["offsets"]


@pytest.mark.parametrize("said", VECTORS["orientations"], ids=lambda said: str(said["exif"]))
def test_orientations(said: dict[str, Any]) -> None:
    a, b, c, d = (65536 * entry for entry in said["matrix"])
    stored = np.array(said["stored"], np.uint8)[..., None]
    for turned in (from_exif(said["exif"]), from_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))):
        assert turned.apply(stored)[..., 0].tolist() == said["shown"]


def test_a_clip_file_has_the_bytes_of_the_vector(key: SecurityKey, tmp_path: Path) -> None:
    content, plain = small_clip(key)
    for name in ("a.lcve", "b.lcve"):
        write_clip_file(tmp_path / name, content)
        assert (tmp_path / name).read_bytes().hex() == VECTORS["clip_file"]["file_hex"]
    np.testing.assert_array_equal(read_clip_file(tmp_path / "a.lcve").clip.values, content.clip.values)
    assert content.clip.values.tobytes() != plain.tobytes()


def test_the_bytes_of_a_clip_file_are_the_same_in_every_process(tmp_path: Path) -> None:
    """The library writes metadata in the order of a hash table that is seeded at random."""
    import subprocess
    import sys

    program = (
        "import sys; from lcve_deploy import SecurityKey; from tests import test_vectors as v;"
        "v.write_clip_file(sys.argv[1], v.small_clip(SecurityKey(bytes(range(32))))[0])"
    )
    for name in ("a.lcve", "b.lcve"):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], cwd=ROOT, check=True)
    assert (tmp_path / "a.lcve").read_bytes() == (tmp_path / "b.lcve").read_bytes()


def test_only_uint8_becomes_a_clip_file(key: SecurityKey, tmp_path: Path) -> None:
    from lcve_deploy import EncryptedClip
    from lcve_deploy.errors import EncryptedClipError

    content, _ = small_clip(key)
    clip = EncryptedClip(values=content.clip.values.astype(np.float32), binding=content.clip.binding)
    with pytest.raises(EncryptedClipError, match="uint8"):
        write_clip_file(tmp_path / "a.lcve", ClipFile(clip=clip, views=content.views))
    assert list(tmp_path.iterdir()) == []


# On the wire


def test_a_server_reads_the_http_request(key: SecurityKey) -> None:
    from lcve_deploy.serving.http.messages import from_body

    said = VECTORS["http_request"]
    body = bytes.fromhex(said["body_hex"])
    length = int(said["headers"]["Inference-Header-Content-Length"])
    assert json.loads(body[:length]) == said["header"]
    request, binary = from_body(json.loads(body[:length]), memoryview(body)[length:], "actions", "")
    (tensor,) = request.inputs
    content, _ = small_clip(key)
    assert (tensor.name, tensor.datatype, tensor.shape) == ("clips", "UINT8", content.clip.values.shape)
    assert bytes(tensor.data) == content.clip.values.tobytes()
    assert request.binding == content.clip.binding
    assert [(output.name, output.binary) for output in request.outputs] == [("logits", True)]
    assert binary is False


def test_the_client_sends_the_http_request(key: SecurityKey, monkeypatch: pytest.MonkeyPatch) -> None:
    from lcve_deploy.remote.connection import Reply
    from lcve_deploy.remote.over_http import HttpTransport

    sent: dict[str, Any] = {}
    said, answer = VECTORS["http_request"], VECTORS["http_answer"]

    def ask(
        self: HttpTransport, method: str, path: str, body: bytes, headers: dict[str, str], *limits: object
    ) -> Reply:
        sent.update(method=method, path=self._path + path, body=body, headers=headers)
        return Reply(
            status=200,
            body=bytes.fromhex(answer["body_hex"]),
            header_length=int(answer["headers"]["Inference-Header-Content-Length"]),
            encoding="identity",
        )

    monkeypatch.setattr(HttpTransport, "_ask", ask)
    given = transport(HttpTransport).infer(clip_request(key), output=ModelOutput.logits(5), seconds=1)
    assert given.logits.tolist() == answer["logits"]
    length = int(sent["headers"]["Inference-Header-Content-Length"])
    raw = bytes.fromhex(said["body_hex"])[int(said["headers"]["Inference-Header-Content-Length"]) :]
    header = json.loads(sent["body"][:length])
    assert header == said["header"]
    assert sent["body"][length:] == raw
    assert (sent["method"], sent["path"]) == (said["method"], said["path"])
    assert sent["headers"]["Content-Type"] == said["headers"]["Content-Type"]


def test_a_server_reads_the_grpc_request(key: SecurityKey) -> None:
    from google.protobuf import json_format

    from lcve_deploy.protocol.stubs import messages
    from lcve_deploy.serving.grpc.messages import from_message

    said = VECTORS["grpc_request"]
    message = json_format.ParseDict(said["message"], messages().ModelInferRequest())
    message.raw_input_contents.extend(map(bytes.fromhex, said["raw_input_contents_hex"]))
    content, _ = small_clip(key)
    request = from_message(message, list(message.raw_input_contents))
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tuple(tensor.shape)) == ("clips", "UINT8", content.clip.values.shape)
    assert bytes(tensor.data) == content.clip.values.tobytes()
    assert request.binding == content.clip.binding


def test_the_client_sends_the_grpc_request(key: SecurityKey, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.protobuf import json_format

    from lcve_deploy.protocol.stubs import messages
    from lcve_deploy.remote.over_grpc import GrpcTransport

    sent: list[Any] = []

    def model_infer(request: Any, **more: object) -> Any:
        sent.append(request)
        answer = messages().ModelInferResponse(model_name="actions", model_version="1")
        answer.outputs.add(name="logits", datatype="FP32", shape=[1, 5])
        answer.raw_output_contents.append(np.arange(5, dtype="<f4").tobytes())
        return answer

    client = transport(GrpcTransport)
    monkeypatch.setattr(client, "_shares", False)
    monkeypatch.setattr(client._client._client_stub, "ModelInfer", model_infer)
    answer = client.infer(clip_request(key), output=ModelOutput.logits(5), seconds=1)
    client.close()
    assert answer.logits.tolist() == [[0, 1, 2, 3, 4]]
    (message,) = sent
    said = VECTORS["grpc_request"]
    assert [raw.hex() for raw in message.raw_input_contents] == said["raw_input_contents_hex"]
    message.ClearField("raw_input_contents")
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == {
        **said["message"],
        "inputs": [{**tensor, "shape": list(map(str, tensor["shape"]))} for tensor in said["message"]["inputs"]],
    }


def clip_request(key: SecurityKey) -> Any:
    from lcve_deploy.remote.transport import Request

    clip = small_clip(key)[0].clip
    return Request.of(clip.values, clip.binding)


def transport(kind: Any) -> Any:
    from lcve_deploy.remote.address import Address
    from lcve_deploy.remote.options import RemoteOptions
    from lcve_deploy.remote.token import Token

    address = Address.parse("http://127.0.0.1:8000/actions")
    return kind(address, address.endpoints[0], RemoteOptions(), Token())


def test_the_binding_of_the_vectors_is_that_of_the_orders(key: SecurityKey) -> None:
    said = VECTORS["http_request"]["header"]["parameters"]
    geometry = ClipGeometry.parse(VECTORS["clip_file"]["geometry"])
    binding = binding_of(derive_orders(key, salt=SALT, geometry=geometry), Layout.CUBES)
    assert said == {f"lcve_{name}": str(getattr(binding, name)) for name in binding.__dataclass_fields__}
