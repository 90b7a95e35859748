"""Makes the valid files that fuzzing starts from: ``python -m fuzz.seeds`` writes ``fuzz/corpus/*/seed-*``.

Inputs that once found something stand beside them as ``found-*`` and are kept by hand.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from safetensors.torch import save

from fuzz.targets import ASKED, BINDING, CORPUS, GEOMETRY, OPTIONS, SALT, SEALING_KEYS, SECRET
from lcve_deploy import (
    ClipFile,
    PlainClip,
    SecurityKey,
    Views,
    derive_orders,
    encrypt,
    export,
)
from lcve_deploy.artifact import Profile, read_manifest
from lcve_deploy.artifact.engine_mac import authenticate
from lcve_deploy.artifact.engine_secret import EngineSecret
from lcve_deploy.artifact.engines import Agreement, EngineKind, EngineRecord, Proof
from lcve_deploy.artifact.manifest import manifest_digest
from lcve_deploy.cipher.clips import binding_of
from lcve_deploy.clipfile import write_clip_file
from lcve_deploy.clips import EncryptedClip, Layout, Scheme
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.model.precision import Precision
from lcve_deploy.packing import pack
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.sealing import OpenedRequest, seal_request
from lcve_deploy.verbs.export import ExportOptions
from lcve_deploy.video.write import encode_png

WIDTH = 6
Weights = dict[str, torch.Tensor]


def weights() -> Weights:
    """A VideoMAE of one block that is as small as can be, in the official names."""
    torch.manual_seed(0)
    shapes = {
        "patch_embed.proj.weight": (WIDTH, 3, *GEOMETRY.cube),
        "patch_embed.proj.bias": (WIDTH,),
        "blocks.0.norm1.weight": (WIDTH,),
        "blocks.0.norm1.bias": (WIDTH,),
        "blocks.0.attn.q_bias": (WIDTH,),
        "blocks.0.attn.v_bias": (WIDTH,),
        "blocks.0.attn.qkv.weight": (3 * WIDTH, WIDTH),
        "blocks.0.attn.proj.weight": (WIDTH, WIDTH),
        "blocks.0.attn.proj.bias": (WIDTH,),
        "blocks.0.norm2.weight": (WIDTH,),
        "blocks.0.norm2.bias": (WIDTH,),
        "blocks.0.mlp.fc1.weight": (8, WIDTH),
        "blocks.0.mlp.fc1.bias": (8,),
        "blocks.0.mlp.fc2.weight": (WIDTH, 8),
        "blocks.0.mlp.fc2.bias": (WIDTH,),
        "fc_norm.weight": (WIDTH,),
        "fc_norm.bias": (WIDTH,),
        "head.weight": (5, WIDTH),
        "head.bias": (5,),
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def hugging_face_weights() -> Weights:
    """The same model in the names of a Hugging Face folder."""
    layer = "videomae.encoder.layer.0."
    names = {
        "patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
        "blocks.0.norm1": f"{layer}layernorm_before",
        "blocks.0.norm2": f"{layer}layernorm_after",
        "blocks.0.attn.proj": f"{layer}attention.output.dense",
        "blocks.0.mlp.fc1": f"{layer}intermediate.dense",
        "blocks.0.mlp.fc2": f"{layer}output.dense",
        "fc_norm": "fc_norm",
        "head": "classifier",
    }
    plain = weights()
    attention = {f"{layer}attention.attention.{x}_bias": plain.pop(f"blocks.0.attn.{x}_bias") for x in "qv"}
    parts = plain.pop("blocks.0.attn.qkv.weight").chunk(3)
    attention |= {
        f"{layer}attention.attention.{name}.weight": part.clone()
        for name, part in zip(("query", "key", "value"), parts, strict=True)
    }
    renamed = {f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": t for name, t in plain.items()}
    return renamed | attention


def saved(content: object, *, legacy: bool = False) -> bytes:
    """What ``torch.save`` writes."""
    memory = io.BytesIO()
    torch.save(content, memory, _use_new_zipfile_serialization=not legacy)
    return memory.getvalue()


def checkpoints() -> Iterator[tuple[str, bytes]]:
    """Official files: plain, with training arguments, in half precision, and of the time before zip archives."""
    arguments = argparse.Namespace(
        num_frames=GEOMETRY.frames, input_size=GEOMETRY.height, data_set="SSV2", lr=np.float64(0.001)
    )
    yield "seed-plain.pth", saved(weights())
    yield "seed-arguments.pth", saved({"model": weights(), "args": arguments, "epoch": 3})
    yield "seed-half.pth", saved({"module": {name: t.half() for name, t in weights().items()}})
    yield "seed-legacy.pth", saved({"model": weights(), "args": arguments}, legacy=True)


def folders() -> Iterator[tuple[str, bytes]]:
    """Parts of a Hugging Face folder, each behind the letter that says which part it is."""
    config = {
        "model_type": "videomae",
        "architectures": ["VideoMAEForVideoClassification"],
        "image_size": GEOMETRY.height,
        "patch_size": GEOMETRY.cube[1],
        "num_frames": GEOMETRY.frames,
        "tubelet_size": GEOMETRY.cube[0],
        "num_channels": 3,
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "qkv_bias": True,
        "use_mean_pooling": True,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "id2label": {str(i): f"class {i}" for i in range(5)},
    }
    processor = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
        "size": {"shortest_edge": 4},
        "crop_size": 4,
    }
    index = {"metadata": {}, "weight_map": dict.fromkeys(hugging_face_weights(), "shard.safetensors")}
    yield "seed-config", b"c" + json.dumps(config).encode()
    yield "seed-processor", b"p" + json.dumps(processor).encode()
    yield "seed-index", b"i" + json.dumps(index).encode()
    yield "seed-weights", b"w" + save(hugging_face_weights())
    yield "seed-bin", b"b" + saved(hugging_face_weights())


EXIF = b"\xff\xe1\x00\x22Exif\0\0" + struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 274, 3, 1, 5, 0, 0)
"""A segment of a JPEG, with orientation 5."""


def videos() -> Iterator[tuple[str, bytes]]:
    """A few frames in the containers that people have."""
    frames = np.random.default_rng(0).integers(0, 256, (6, 16, 24, 3), np.uint8)
    for container, codec, pixels in (
        ("mp4", "mpeg4", "yuv420p"),
        ("matroska", "mpeg4", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("gif", "gif", "rgb8"),
        ("mpegts", "mpeg2video", "yuv420p"),
        ("apng", "apng", "rgb24"),
    ):
        memory = io.BytesIO()
        with av.open(memory, "w", format=container) as target:
            stream = cast(av.VideoStream, target.add_stream(codec, rate=25))
            stream.width, stream.height, stream.pix_fmt = 24, 16, pixels
            for image in frames:
                target.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            target.mux(stream.encode())
        yield f"seed-{container}", memory.getvalue()
    yield "seed-png", encode_png(frames[0])
    yield from pictures(frames[0])


def pictures(image: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """Still pictures; the JPEG has an EXIF orientation."""
    for name, codec, pixels in (
        ("jpeg", "mjpeg", "yuvj420p"),
        ("webp", "libwebp", "yuv420p"),
        ("tiff", "tiff", "rgb24"),
        ("bmp", "bmp", "bgr24"),
        ("ppm", "ppm", "rgb24"),
    ):
        encoder = cast(av.VideoCodecContext, av.CodecContext.create(codec, "w"))
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 24, 16, pixels, Fraction(1)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
        data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
        yield f"seed-{name}", data[:2] + EXIF + data[2:] if name == "jpeg" else data


def arrays() -> Iterator[tuple[str, bytes]]:
    """A clip and logits as ``.npy``, and the logits as JSON."""
    chance = np.random.default_rng(0)
    for name, array in (
        ("array", chance.integers(0, 256, GEOMETRY.clip_shape, np.uint8)),
        ("logits", chance.standard_normal((2, 5)).astype(np.float32)),
    ):
        memory = io.BytesIO()
        np.save(memory, array)
        yield name, memory.getvalue()
        if name == "logits":
            yield "logits_json", json.dumps({"views": "2x1", "labels": "hidden", "logits": array.tolist()}).encode()


def clips(place: Path, key: SecurityKey) -> Iterator[tuple[str, bytes]]:
    """An encrypted clip in each layout."""
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    plain = PlainClip(values=np.zeros((2, *GEOMETRY.clip_shape), np.uint8))
    for layout in Layout:
        path = place / f"{layout}.lcve"
        write_clip_file(path, ClipFile(clip=encrypt(plain, orders, layout=layout), views=Views(temporal=2)))
        yield f"seed-{layout}", path.read_bytes()
    path = place / "dct.lcve"
    write_clip_file(path, ClipFile(clip=_coefficients(key), views=Views(temporal=2)))
    yield "seed-dct", path.read_bytes()


def packed(key: SecurityKey) -> Iterator[tuple[str, bytes]]:
    """Two clips with large coefficients, with and without padding."""
    for pad in (1, 512):
        yield f"seed-pad-{pad}", pack(_coefficients(key).values, GEOMETRY, pad=pad)


def _coefficients(key: SecurityKey) -> EncryptedClip:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY, scheme=Scheme.DCT)
    plain = np.random.default_rng(0).integers(0, 256, (2, *GEOMETRY.clip_shape), np.uint8)
    return encrypt(PlainClip(values=plain), orders, step=1.0)


def artifact(place: Path, key: SecurityKey) -> dict[str, bytes]:
    """The files of an artifact of the little model."""
    (place / "model.pth").write_bytes(saved(weights()))
    export(place / "model.pth", place / "service", key=key, options=ExportOptions(checkpoint=OPTIONS, salt=SALT))
    server = place / "service/server"
    folder = server / "keys/main"
    return {
        "manifest": (server / "manifest.json").read_bytes(),
        "probe": (server / "probe.safetensors").read_bytes(),
        "key_manifest": (folder / "key.json").read_bytes(),
        "key_probe": (folder / "probe.safetensors").read_bytes(),
        "keyed": (folder / "keyed.safetensors").read_bytes(),
        "client": (place / "service/client/client.json").read_bytes(),
        "engine": engine(manifest_digest(server), len(read_manifest(server).files)),
    }


def requests() -> Iterator[tuple[str, str, bytes]]:
    """A request over each protocol, with everything in it: target, name and bytes."""
    binding = binding_of(derive_orders(SecurityKey(SECRET), salt=SALT, geometry=GEOMETRY), Layout.CUBES)
    parameters, shape = binding_to_parameters(binding), [1, *Layout.CUBES.shape(GEOMETRY)]
    values = bytes(GEOMETRY.cubes * GEOMETRY.values)
    tensor = {"name": "clips", "datatype": "UINT8", "shape": shape}
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
    fields = {"id": "7", "parameters": {**parameters, "timeout": 1_000_000}, "outputs": outputs}
    for name, data, raw in (
        ("binary", {"parameters": {"binary_data_size": len(values)}}, values),
        ("json", {"data": list(values)}, b""),
    ):
        text = json.dumps({**fields, "inputs": [{**tensor, **data}]}).encode()
        yield "request", name, struct.pack("<Q", len(text)) + text + raw
    message = messages().ModelInferRequest(model_name="model", id="7", raw_input_contents=[values])
    message.inputs.add(name="clips", datatype="UINT8", shape=shape)
    message.outputs.add(name="logits")
    for name, value in parameters.items():
        message.parameters[name].string_param = value
    yield "message", "raw", message.SerializeToString()


def engine(digest: str, clips: int) -> bytes:
    """A record with every field."""
    record = EngineRecord(
        name="fast",
        kind=EngineKind.OPENVINO,
        precision=Precision.INT8,
        builder={"openvino": "2026.4"},
        target="a CPU",
        manifest_sha256=digest,
        profile=Profile(),
        options={"budget": "0.05"},
        ranges={"blocks.0.mlp.fc1": 3.5},
        proof=Proof(device="a CPU", clips=clips, max_difference=0.01, budget=0.05, milliseconds=1.5),
        agreement=Agreement(clips=4, max_difference=0.01, top1=1.0),
    )
    secret = EngineSecret(raw=SECRET, path=Path("engine-secret"))
    return json.dumps(authenticate(record, secret).to_json()).encode()


def answers() -> Iterator[tuple[str, str, bytes]]:
    """What a server says of its model, and what it answers, as HTTP and gRPC carry them."""
    from google.protobuf.json_format import MessageToJson
    from tritonclient.grpc import model_config_pb2, service_pb2

    shape, logits = BINDING.layout.shape(GEOMETRY), np.arange(10, dtype="<f4").tobytes()
    metadata = service_pb2.ModelMetadataResponse(name="model", versions=["1"], platform="onnxruntime_onnx")
    metadata.inputs.add(name="clips", datatype="UINT8", shape=[-1, *shape])
    metadata.outputs.add(name="logits", datatype="FP32", shape=[-1, 5])
    config = model_config_pb2.ModelConfig(name="model", max_batch_size=8)
    config.input.add(name="clips", data_type="TYPE_UINT8", dims=shape)
    config.output.add(name="logits", data_type="TYPE_FP32", dims=[5])
    for name, value in binding_to_parameters(BINDING).items():
        config.parameters[name].string_value = value
    texts = [MessageToJson(m, preserving_proto_field_name=True, indent=None).encode() for m in (metadata, config)]
    yield "served", "seed-served", b"\n".join(texts)
    output = {"name": "logits", "datatype": "FP32", "shape": [2, 5]}
    answer = {"model_name": "model", "model_version": "1"}
    binary = json.dumps({**answer, "outputs": [{**output, "parameters": {"binary_data_size": 40}}]}).encode()
    yield "answer", "seed-binary", len(binary).to_bytes(2, "little") + binary + logits
    plain = json.dumps({**answer, "outputs": [{**output, "data": list(range(10))}]}).encode()
    yield "answer", "seed-json", bytes(2) + plain
    response = service_pb2.ModelInferResponse(**answer, raw_output_contents=[logits])
    response.outputs.add(**output)
    yield "response", "seed-response", response.SerializeToString()


def signed(manifest: bytes, key_manifest: bytes) -> dict[str, bytes]:
    """Both halves of a key pair, and its signatures of the manifests of a model and of a key folder."""
    private = Ed25519PrivateKey.from_private_bytes(SECRET)
    key = SigningKey.from_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {
        "signing": key.to_bytes(),
        "public": key.public_key.to_bytes(),
        "signature": key.sign(manifest),
        "key_signature": key.sign_key(key_manifest),
    }


def sealed(place: Path) -> Iterator[tuple[str, str, bytes]]:
    """Keys, a clip, a request, an answer and the content of a request, in each suite: target, name and bytes."""
    values = np.arange(2 * GEOMETRY.cubes * GEOMETRY.values, dtype=np.uint8)
    stack = EncryptedClip(values=values.reshape(2, *Layout.CUBES.shape(GEOMETRY)), binding=BINDING)
    for suite, key in SEALING_KEYS.items():
        yield "sealing", f"{suite}-private", key.to_bytes()
        yield "sealing", f"{suite}-public", key.public_key.to_bytes()
        path = place / f"{suite}.lcve"
        write_clip_file(path, ClipFile(clip=stack, views=Views(temporal=2)), seal_to=key.public_key)
        yield "sealed", suite, path.read_bytes()
        asked = seal_request(values.tobytes(), clips=2, binding=BINDING, to=key.public_key, model="actions")
        yield "sealed_request", suite, asked.data
        head = asked.header.to_bytes()
        content = asked.key.public_key.raw + values.tobytes()
        yield "sealed_content", suite, struct.pack("<Q", len(head)) + head + content
    question = OpenedRequest(header=ASKED, values=memoryview(b""), reply_to=SEALING_KEYS[ASKED.suite].public_key)
    yield "sealed_answer", "answer", question.seal_answer(bytes(40), classes=5, version="1")


def main() -> None:
    """Write all seeds."""
    key = SecurityKey(SECRET)
    with tempfile.TemporaryDirectory() as place:
        made = artifact(Path(place), key)
        made |= signed(made["manifest"], made["key_manifest"])
        seeds: dict[str, list[tuple[str, bytes]]] = {
            "key": [("seed-key", key.to_bytes())],
            "checkpoint": list(checkpoints()),
            "reference": list(checkpoints()),
            "folder": list(folders()),
            "video": list(videos()),
            **{name: [(f"seed-{name}", data)] for name, data in arrays()},
            "clip": list(clips(Path(place), key)),
            "packed": list(packed(key)),
            **{name: [(f"seed-{name}", data)] for name, data in made.items()},
            "request": [(f"seed-{name}", data) for target, name, data in requests() if target == "request"],
            "message": [(f"seed-{name}", data) for target, name, data in requests() if target == "message"],
            "secret": [("seed-secret", f"lcve-engine-secret-1 {SECRET.hex()}\n".encode())],
            "tokens": [("seed-tokens", b"# clients\ncamera-7 0123456789abcdef\nroom@home\tfedcba9876543210\n")],
        }
        for target, name, data in answers():
            seeds.setdefault(target, []).append((name, data))
        for target, name, data in sealed(Path(place)):
            seeds.setdefault(target, []).append((f"seed-{name}", data))
        for target, files in seeds.items():
            (CORPUS / target).mkdir(parents=True, exist_ok=True)
            for name, data in files:
                (CORPUS / target / name).write_bytes(data)


if __name__ == "__main__":
    main()
