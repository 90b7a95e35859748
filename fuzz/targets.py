"""What is fuzzed: one row a reader, with its file, how it is mutated, and what it may raise."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuzz import mutators
from lcve_deploy import CheckpointOptions, SecurityKey
from lcve_deploy.artifact import ModelSpec, PublicKey, read_engine, read_key_manifest, read_manifest
from lcve_deploy.artifact.engine_secret import read_secret
from lcve_deploy.artifact.graph_files import read_graph
from lcve_deploy.artifact.inlining import inputs_for_weights
from lcve_deploy.artifact.probe import parse_probe
from lcve_deploy.artifact.tensors import check_keyed, parse_tensors
from lcve_deploy.client import Client
from lcve_deploy.clipfile import read_clip_file
from lcve_deploy.clips import COEFFICIENTS, Binding, Layout
from lcve_deploy.errors import LcveError, SessionError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.packing import count_packed, unpack
from lcve_deploy.sealing import Keyring, OpenedRequest, SealedRequest, SealingKey, SealingPublicKey, Suite, open_request
from lcve_deploy.sealing.envelope import MAGIC, info_of
from lcve_deploy.sealing.header import Header, Kind
from lcve_deploy.video import read_clips
from lcve_deploy.video.pictures import is_picture

CORPUS: Final = Path(__file__).parent / "corpus"
GEOMETRY: Final = ClipGeometry.parse("2x4x4x3/2x2x2")
PREPROCESS: Final = Preprocess(frames=2, stride=1, short_side=4, crop=(4, 4))
OPTIONS: Final = CheckpointOptions(heads=2, frames=2, size=4)
BINDING: Final = Binding(scheme="lcve-1", key_id="a" * 32, salt="b" * 32, geometry=GEOMETRY, layout=Layout.CUBES)
SECRET: Final = bytes(range(32))
SEALING_KEYS: Final = {suite: SealingKey(suite, bytes(range(suite.secret_bytes))) for suite in Suite}
ASKED: Final = Header(
    kind=Kind.REQUEST,
    suite=Suite.X25519,
    recipient=SEALING_KEYS[Suite.X25519].public_key.fingerprint,
    binding=BINDING,
    id="f0" * 16,
    model="actions",
    clips=2,
)
"""Of a sealed request; its answer is sealed to the same key."""
SALT: Final = bytes(range(16, 32))


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader.

    Args:
        read: writes the bytes into an empty folder where the reader expects them, and reads them.
        mutate: what makes new inputs of old ones.
    """

    read: Callable[[Path, bytes], object]
    mutate: mutators.Mutator


def run(name: str, place: Path, data: bytes) -> object:
    """Read one input.

    Returns:
        What the reader made of it, or its own error; anything else that is raised is a finding.
    """
    try:
        with quiet():
            return TARGETS[name].read(place, data)
    except LcveError as error:
        return error


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings are for users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def seeds(name: str) -> list[Path]:
    """The kept inputs of a target."""
    return sorted((CORPUS / name).iterdir())


def _seed(name: str) -> bytes:
    return (CORPUS / name / f"seed-{name}").read_bytes()


def _written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _key(place: Path, data: bytes) -> object:
    return SecurityKey.read(_written(place / "key.bin", data)), SecurityKey.from_bytes(data)


def _clip(place: Path, data: bytes) -> object:
    return read_clip_file(_written(place / "a.lcve", data))


def _packed(place: Path, data: bytes) -> object:
    """Packed clips, as a server takes them."""
    return unpack(data, GEOMETRY, clips=count_packed(data, limit=4))[COEFFICIENTS].sum()


def _manifest(place: Path, data: bytes) -> object:
    return read_manifest(_written(place / "manifest.json", data).parent)


def _client(place: Path, data: bytes) -> object:
    return Client.open(_written(place / "client.json", data).parent, SecurityKey(SECRET))


def _engine(place: Path, data: bytes) -> object:
    _written(place / "engines/fast/engine.json", data)
    return read_engine(place, "fast")


def _secret(place: Path, data: bytes) -> object:
    path = _written(place / "engine-secret", data)
    path.chmod(0o600)
    return read_secret(path)


def _key_manifest(place: Path, data: bytes) -> object:
    return read_key_manifest(_written(place / "key.json", data).parent)


def _key_signature(place: Path, data: bytes) -> object:
    signed_by = PublicKey.from_bytes(_seed("public"))
    _written(place / "key.json", _seed("key_manifest"))
    return read_key_manifest(_written(place / "key.sig", data).parent, signed_by)


def _probe(place: Path, data: bytes) -> object:
    """The probe of a model, which has keyed tensors."""
    return parse_probe(data, place / "probe.safetensors", _model(place), with_tensors=True)


def _key_probe(place: Path, data: bytes) -> object:
    return parse_probe(data, place / "probe.safetensors", _model(place), with_tensors=False)


def _model(place: Path) -> ModelSpec:
    return read_manifest(_written(place / "manifest.json", _seed("manifest")).parent).model


def _graph(place: Path, data: bytes) -> object:
    """A graph next to the file that its external data are in."""
    _written(place / "keyed.safetensors", _seed("keyed"))
    return inputs_for_weights(read_graph(_written(place / "model.onnx", data), mapped=False))


def _keyed(place: Path, data: bytes) -> object:
    path = place / "keyed.safetensors"
    tensors = parse_tensors(data, path, "keyed tensors")
    check_keyed(tensors, _model(place), path)
    return {name: tensor.sum() for name, tensor in tensors.items()}


def _checkpoint(place: Path, data: bytes) -> object:
    from lcve_deploy.exporters.checkpoints import load_checkpoint

    return load_checkpoint(_written(place / "model.pth", data), OPTIONS)


def _reference(place: Path, data: bytes) -> object:
    from lcve_deploy.exporters.checkpoints.outer import load_outer_weights

    return load_outer_weights(_written(place / "model.pth", data), GEOMETRY)


def _public(place: Path, data: bytes) -> object:
    return PublicKey.read(_written(place / "signing.pub", data))


def _signing(place: Path, data: bytes) -> object:
    return SigningKey.read(_written(place / "signing.pem", data))


def _signature(place: Path, data: bytes) -> object:
    signed_by = PublicKey.from_bytes(_seed("public"))
    _written(place / "manifest.json", _seed("manifest"))
    return read_manifest(_written(place / "manifest.sig", data).parent, signed_by)


def _folder(place: Path, data: bytes) -> object:
    from lcve_deploy.exporters.checkpoints import load_checkpoint

    names = {
        b"c": ("config.json",),
        b"p": ("preprocessor_config.json",),
        b"i": ("model.safetensors.index.json",),
        b"w": ("model.safetensors", "shard.safetensors"),
        b"b": ("pytorch_model.bin",),
    }
    parts = {"config.json": (CORPUS / "folder/seed-config").read_bytes()[1:]}
    part = data[:1] if data[:1] in names else b"c"
    if part not in (b"w", b"b"):
        name = "shard.safetensors" if part == b"i" else "model.safetensors"
        parts[name] = (CORPUS / "folder/seed-weights").read_bytes()[1:]
    parts |= dict.fromkeys(names[part][:1], data[1:])
    for name, content in parts.items():
        _written(place / name, content)
    return load_checkpoint(place)


def _video(place: Path, data: bytes) -> object:
    """A video as a file; a still picture as the only frame of a folder."""
    path = _written(place / "video", data)
    if not is_picture(path):
        return read_clips(path, PREPROCESS, GEOMETRY)
    return read_clips(_written(place / "frames/1.png", data).parent, PREPROCESS, GEOMETRY)


def _logits(place: Path, data: bytes) -> object:
    _written(place / "client.json", _seed("client"))
    return Client.open(place, SecurityKey(SECRET)).read_logits(_written(place / "logits.npy", data))


def _logits_json(place: Path, data: bytes) -> object:
    _written(place / "client.json", _seed("client"))
    return Client.open(place, SecurityKey(SECRET)).read_logits(_written(place / "logits.json", data))


def _request(place: Path, data: bytes) -> object:
    """A request over HTTP: eight bytes with the length of the JSON, JSON, binary data."""
    from lcve_deploy.serving.http.messages import from_body, parse_object, split_body

    text, raw = split_body(memoryview(data[8:]), str(int.from_bytes(data[:8], "little")), len(data))
    request, _ = from_body(parse_object(text), raw, "model", "")
    return _clips_of(place, request)


def _message(place: Path, data: bytes) -> object:
    """A request over gRPC."""
    from google.protobuf.message import DecodeError

    from lcve_deploy.serving.grpc.messages import from_message
    from lcve_deploy.serving.grpc.wire import message_reader

    try:
        request = message_reader()(data)
    except DecodeError:  # gRPC itself answers these
        return None
    return _clips_of(place, from_message(request.message, request.raw))


def _clips_of(place: Path, request: Any) -> object:
    from lcve_deploy.serving.inference import clips_from
    from lcve_deploy.serving.shared_memory import Regions

    return clips_from(request.inputs, _model(place), 8, Regions(None).of("", is_local=True)).sum()


def _tokens(place: Path, data: bytes) -> object:
    from lcve_deploy.serving.access import Access, read_tokens

    return Access(read_tokens(_written(place / "tokens", data)), 0).authenticate("Bearer 0123456789abcdef", "client")


def _array(place: Path, data: bytes) -> object:
    return read_clips(_written(place / "clip.npy", data), PREPROCESS, GEOMETRY)


def _served(place: Path, data: bytes) -> object:
    """What a server says of its model: the metadata, and the configuration after a line break."""
    from lcve_deploy.protocol.stubs import config_messages, messages
    from lcve_deploy.remote.bodies import read_description
    from lcve_deploy.remote.contract import check_model

    first, _, second = data.partition(b"\n")
    metadata = read_description(first, messages().ModelMetadataResponse(), "server")
    config = read_description(second, config_messages().ModelConfig(), "server")
    return check_model(metadata, config, BINDING, name="model", endpoint="server")


def _answer(place: Path, data: bytes) -> object:
    """Logits of two clips: the length of the header in two bytes, and the body."""
    from lcve_deploy.remote.bodies import read_answer

    return read_answer(data[2:], int.from_bytes(data[:2], "little") or None, (2, 5), "server")


def _response(place: Path, data: bytes) -> object:
    """The same over gRPC."""
    from google.protobuf.message import DecodeError

    from lcve_deploy.protocol.stubs import messages
    from lcve_deploy.remote.over_grpc import read_response

    try:
        response = messages().ModelInferResponse.FromString(data)
    except DecodeError as error:  # gRPC gives it a status
        raise SessionError(str(error)) from None
    return read_response(response, (2, 5), "server")


def _sealing(place: Path, data: bytes) -> object:
    """A sealing key, private or public."""
    path = _written(place / "serve.key", data)
    return SealingKey.read(path) if b"PRIVATE KEY" in data else SealingPublicKey.read(path)


def _sealed(place: Path, data: bytes) -> object:
    """A sealed clip."""
    path = _written(place / "a.lcve", data)
    return read_clip_file(path, open_with=SEALING_KEYS[_suite(data)]).clip.values.sum()


def _sealed_request(place: Path, data: bytes) -> OpenedRequest:
    keys = Keyring(keys=tuple(SEALING_KEYS.values()))
    return open_request(data, keys, None, binding=BINDING, model="actions", version="")


def _sealed_answer(place: Path, data: bytes) -> object:
    question = SealedRequest(data=b"", header=ASKED, key=SEALING_KEYS[Suite.X25519])
    return question.open_answer(data, classes=5)


def _sealed_by_a_client(place: Path, data: bytes) -> object:
    """What is behind the tag: eight bytes with the length of the header, header, content. They are sealed here."""
    length = int.from_bytes(data[:8], "little")
    head, content = data[8 : 8 + length], data[8 + length :]
    with contextlib.suppress(ValueError, RecursionError):
        head = json.dumps(json.loads(head), sort_keys=True, separators=(",", ":")).encode()
    suite = _suite(head)
    body = suite.encrypt(content, SEALING_KEYS[suite].public_key.raw, info_of(BINDING, Kind.REQUEST, head))
    opened = _sealed_request(place, MAGIC + len(head).to_bytes(4, "little") + head + body)
    return opened.seal_answer(bytes(20), classes=5, version="1")


def _suite(data: bytes) -> Suite:
    return Suite.HYBRID if f'"{Suite.HYBRID}"'.encode() in data else Suite.X25519


TARGETS: Final[dict[str, Target]] = {
    "key": Target(read=_key, mutate=mutators.mutate_bytes),
    "clip": Target(read=_clip, mutate=mutators.mutate_safetensors),
    "packed": Target(read=_packed, mutate=mutators.mutate_packed),
    "manifest": Target(read=_manifest, mutate=mutators.mutate_json),
    "client": Target(read=_client, mutate=mutators.mutate_json),
    "engine": Target(read=_engine, mutate=mutators.mutate_json),
    "secret": Target(read=_secret, mutate=mutators.mutate_bytes),
    "key_manifest": Target(read=_key_manifest, mutate=mutators.mutate_json),
    "key_signature": Target(read=_key_signature, mutate=mutators.mutate_bytes),
    "key_probe": Target(read=_key_probe, mutate=mutators.mutate_safetensors),
    "probe": Target(read=_probe, mutate=mutators.mutate_safetensors),
    "graph": Target(read=_graph, mutate=mutators.mutate_bytes),
    "keyed": Target(read=_keyed, mutate=mutators.mutate_safetensors),
    "array": Target(read=_array, mutate=mutators.mutate_npy),
    "logits": Target(read=_logits, mutate=mutators.mutate_npy),
    "logits_json": Target(read=_logits_json, mutate=mutators.mutate_json),
    "checkpoint": Target(read=_checkpoint, mutate=mutators.mutate_torch),
    "reference": Target(read=_reference, mutate=mutators.mutate_torch),
    "public": Target(read=_public, mutate=mutators.mutate_bytes),
    "signing": Target(read=_signing, mutate=mutators.mutate_bytes),
    "signature": Target(read=_signature, mutate=mutators.mutate_bytes),
    "folder": Target(read=_folder, mutate=mutators.mutate_folder),
    "request": Target(read=_request, mutate=mutators.mutate_safetensors),
    "message": Target(read=_message, mutate=mutators.mutate_bytes),
    "tokens": Target(read=_tokens, mutate=mutators.mutate_bytes),
    "video": Target(read=_video, mutate=mutators.mutate_bytes),
    "served": Target(read=_served, mutate=mutators.mutate_lines),
    "answer": Target(read=_answer, mutate=mutators.mutate_answer),
    "sealing": Target(read=_sealing, mutate=mutators.mutate_bytes),
    "sealed": Target(read=_sealed, mutate=mutators.mutate_sealed),
    "sealed_request": Target(read=_sealed_request, mutate=mutators.mutate_sealed),
    "sealed_answer": Target(read=_sealed_answer, mutate=mutators.mutate_sealed),
    "sealed_content": Target(read=_sealed_by_a_client, mutate=mutators.mutate_safetensors),
    "response": Target(read=_response, mutate=mutators.mutate_bytes),
}
