"""Features, tokens and logits of tokens: exact in every way to a model, and in the plain order for the key holder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lcve_deploy import (
    Client,
    ExportOptions,
    Layout,
    PlainClip,
    RemoteOptions,
    RemoteSession,
    SecurityKey,
    SessionOptions,
    Views,
    classify,
    export,
    open_session,
)
from lcve_deploy.artifact import read_client, read_manifest
from lcve_deploy.deployments.triton.model_folder import read_config
from lcve_deploy.errors import ArtifactError, CheckpointError, MismatchError, SessionError
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.model.output import ModelOutput, OutputKind
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.verbs.batch import Job, find_videos
from lcve_deploy.verbs.batch.stage import open_stage
from lcve_deploy.verbs.batch.table import write_table
from lcve_deploy.verbs.batch.worker import Worker
from tests.conftest import run_error, run_ok
from tests.javascript.test_exchange import client_json, python_file
from tests.support.artifacts import edit_json
from tests.support.node import JavaScriptClient, require_node
from tests.support.servers import Server, serving
from tests.test_oracle_folders import EXPECTED, FOLDERS, NAMES

KEY = SecurityKey(bytes(range(32)))
REGISTERS = "dinov2_with_registers"
"""A model of single pictures with five prefix tokens and a grid of 4 x 4 cubes."""
VIDEO = "vjepa2"
KINDS = ("features", "tokens", "token_logits")
NOT_LIKE_OURS = {"dinov3_vit", "siglip2", "timesformer_joint"}
"""Other inputs, no encoder of its own, and tokens in another order; their vectors are compared elsewhere."""

Values = npt.NDArray[Any]


def vectors_file(folder: Path, *, width: int = 48, classes: int = 6) -> Path:
    """Unit vectors of some classes, with a scale and names."""
    vectors = np.random.default_rng(5).normal(size=(classes, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = np.array([f"class of vector {number}" for number in range(classes)])
    np.savez(folder / "vectors.npz", vectors=vectors.astype(np.float32), scale=np.float32(20), names=names)
    return folder / "vectors.npz"


def options_for(kind: str, folder: Path) -> CheckpointOptions:
    if kind == "token_logits":
        return CheckpointOptions(output=OutputChoice.TOKENS, class_vectors=vectors_file(folder))
    return CheckpointOptions(output=OutputChoice(kind))


def inputs_of(name: str) -> npt.NDArray[np.uint8]:
    geometry = load_checkpoint(FOLDERS / name).model.config.geometry
    return np.load(FOLDERS / name / EXPECTED[name]["input"]).reshape(1, *geometry.clip_shape)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CheckpointOptions]:
    """An artifact for each kind of output, and what the export was told."""
    folder = tmp_path_factory.mktemp(request.param)
    options = options_for(request.param, folder)
    export(FOLDERS / REGISTERS, folder / "service", key=KEY, options=ExportOptions(checkpoint=options))
    return folder / "service", options


@pytest.fixture(scope="module")
def service(made: tuple[Path, CheckpointOptions]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def expected(made: tuple[Path, CheckpointOptions]) -> Values:
    """What the plain model answers for the oracle's picture, in float64."""
    model = load_checkpoint(FOLDERS / REGISTERS, made[1]).model
    return BuiltinReference(model).logits(inputs_of(REGISTERS))


@pytest.fixture(scope="module")
def client(service: Path) -> Client:
    return Client.open(service / "client", KEY)


@pytest.fixture(scope="module")
def server(service: Path) -> Iterator[Server]:
    with serving(service / "server") as started:
        yield started


def close(received: Values, wanted: Values, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(received, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


# The plain model


@pytest.mark.parametrize("name", sorted(set(NAMES) - NOT_LIKE_OURS))
def test_tokens_are_the_last_hidden_state_of_transformers(name: str) -> None:
    import torch
    import transformers

    from lcve_deploy.exporters.reference.builtin import ReferencePrecision, normalised

    checkpoint = load_checkpoint(FOLDERS / name, CheckpointOptions(output=OutputChoice.TOKENS))
    architecture = json.loads((FOLDERS / name / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, architecture).from_pretrained(FOLDERS / name).double().eval()
    clip = normalised(inputs_of(name)[0], checkpoint.model.normalisation, ReferencePrecision.FLOAT64)
    is_video = checkpoint.model.config.geometry.frames > 1
    encoder = getattr(model, "vision_model", model.base_model)
    with torch.inference_mode():
        inputs = {"pixel_values_videos": clip} if is_video else {"pixel_values": clip[:, 0]}
        wanted = encoder(**inputs).last_hidden_state.numpy()
    close(BuiltinReference(checkpoint.model).logits(inputs_of(name)), wanted, 1e-12)


# Sessions on this machine, and files


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("kind", KINDS)
def test_a_video_in_both_layouts(kind: str, layout: Layout, tmp_path: Path) -> None:
    options = options_for(kind, tmp_path)
    export(FOLDERS / VIDEO, tmp_path / "s", key=KEY, options=ExportOptions(checkpoint=options, layout=layout))
    found = classify(PlainClip(values=inputs_of(VIDEO)), tmp_path / "s", key=KEY)
    model = load_checkpoint(FOLDERS / VIDEO, options).model
    close(found.logits, BuiltinReference(model).logits(inputs_of(VIDEO)))
    assert (found.output.value, found.predictions) == (kind, ())
    if kind == "features":
        with pytest.raises(ValueError, match="a row for each token"):
            found.token_grid()
    else:
        assert found.token_grid().shape == (1, *model.config.geometry.grid, found.logits.shape[-1])


def test_the_manifest_and_the_client_state_the_output(service: Path, expected: Values) -> None:
    manifest, settings = read_manifest(service / "server"), read_client(service / "client").settings
    output = manifest.model.result
    assert output == settings.answer == ModelOutput(kind=output.kind, shape=expected.shape[1:])
    assert manifest.output.name == output.kind.value
    assert len(settings.classes) == (6 if output.kind.has_labels else 0)
    assert settings.labels == ("hidden" if output.kind.has_labels else "shown")
    has_cosine = manifest.parity.min_cosine is not None
    assert has_cosine == (manifest.parity.top1_agreement is None) == (not output.kind.has_labels)


def test_the_server_sees_another_order_than_the_key_holder(service: Path, client: Client, expected: Values) -> None:
    received = open_session(service / "server").run(client.encrypt(PlainClip(values=inputs_of(REGISTERS))))
    close(client.plain_order(received), expected)
    kind = client.settings.answer.kind
    if not kind.has_tokens:
        close(received, expected)
        return
    assert np.abs(received[:, 5:] - expected[:, 5:]).max() > 0.1 * np.abs(expected).max()
    if kind is OutputKind.TOKENS:
        close(received[:, :5], expected[:, :5])  # prefix tokens stay
    grid = client.token_grid(expected)
    np.testing.assert_array_equal(grid.reshape(1, 16, -1), expected[:, 5:])
    with pytest.raises(ValueError, match="at least 16 tokens"):
        client.token_grid(expected[:, :7])


def test_files_of_the_operator_and_of_the_key_holder(
    service: Path, client: Client, expected: Values, tmp_path: Path
) -> None:
    KEY.write(tmp_path / "key.bin")
    np.save(tmp_path / "in.npy", inputs_of(REGISTERS)[0])
    sides = ("--key", tmp_path / "key.bin", "--client", service / "client")
    run_ok("encrypt", tmp_path / "in.npy", *sides, "-o", tmp_path / "clip.lcve")
    run_ok("run", service / "server", tmp_path / "clip.lcve", "--logits-out", tmp_path / "theirs.npy")
    printed = run_ok("read", tmp_path / "theirs.npy", *sides, "--logits-out", tmp_path / "read.npy")
    close(np.load(tmp_path / "read.npy"), expected[0])
    shown = run_ok("run", service, tmp_path / "in.npy", *sides[:2], "--logits-out", tmp_path / "run.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "run.npy"), np.load(tmp_path / "read.npy"))
    assert shown == printed
    said = json.loads(run_ok("run", service, tmp_path / "in.npy", *sides[:2], "--json"))
    assert (said["output"], said["shape"]) == (client.settings.answer.kind.value, [1, *expected.shape[1:]])
    np.save(tmp_path / "other.npy", np.zeros((3, 7), np.float32))
    assert "expected float [views, " in run_error("read", tmp_path / "other.npy", *sides)
    with pytest.raises(MismatchError, match="expected an artifact that answers logits"):
        client.predict(expected)


def test_what_is_printed(service: Path, client: Client, tmp_path: Path) -> None:
    KEY.write(tmp_path / "key.bin")
    np.save(tmp_path / "in.npy", inputs_of(REGISTERS)[0])
    printed = run_ok("run", service, tmp_path / "in.npy", "--key", tmp_path / "key.bin")
    kind = client.settings.answer.kind
    if kind is OutputKind.FEATURES:
        assert printed.startswith("features of view 0: 96 values, length ")
    else:
        assert f"{kind} of 1 views: 21 rows of " in printed
        assert "for 5 prefix tokens and 1 x 4 x 4 cubes" in printed
    assert ("of the cubes: class of vector" in printed) == (kind is OutputKind.TOKEN_LOGITS)


def test_verify_compares_with_the_checkpoint(made: tuple[Path, CheckpointOptions], tmp_path: Path) -> None:
    KEY.write(tmp_path / "key.bin")
    service, options = made
    given = ("--class-vectors", options.class_vectors) if options.class_vectors else ()
    printed = run_ok("verify", service, "--key", tmp_path / "key.bin", "--ckpt", FOLDERS / REGISTERS, *given)
    assert "parity: ok" in printed
    assert ("min cosine similarity" in printed) == (not options.class_vectors)
    other = "tokens" if options.output is OutputChoice.FEATURES else "features"
    message = run_error(
        *("verify", service, "--key", tmp_path / "key.bin", "--ckpt", FOLDERS / REGISTERS, "--output-kind", other)
    )
    assert "expected the options of the export" in message or "expected the class vectors" in message


def test_an_engine(service: Path, client: Client, expected: Values) -> None:
    pytest.importorskip("openvino")
    run_ok("build", service / "server", "--runtime", "openvino", "--precision", "fp32", "--name", "fast")
    session = open_session(service / "server", SessionOptions(engine="fast"))
    clip = client.encrypt(PlainClip(values=inputs_of(REGISTERS)))
    close(client.plain_order(session.run(clip)), expected)


def test_another_key_of_the_model(service: Path, expected: Values, tmp_path: Path) -> None:
    KEY.write(tmp_path / "key.bin")
    run_ok("enroll", service, "--key", tmp_path / "key.bin", "--name", "camera-9", "-o", tmp_path / "camera")
    theirs = SecurityKey.read(tmp_path / "camera/key.bin")
    run_ok("apply", service / "server", tmp_path / "camera/server")
    found = classify(
        *(PlainClip(values=inputs_of(REGISTERS)), service / "server"), key=theirs, client=tmp_path / "camera/client"
    )
    close(found.logits, expected)


# Servers


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server(server: Server, client: Client, expected: Values, protocol: str) -> None:
    clip = client.encrypt(PlainClip(values=np.concatenate([inputs_of(REGISTERS)] * 3)))
    for known in (client.settings.answer, None):
        with RemoteSession(server.address(protocol), client.settings.binding, output=known) as session:
            assert session.connect().output == client.settings.answer
            close(client.plain_order(session.run(clip)), np.repeat(expected, 3, axis=0))
    other = ModelOutput.logits(3)
    with (
        RemoteSession(server.address(protocol), client.settings.binding, output=other) as session,
        pytest.raises(MismatchError, match="is not for these clips"),
    ):
        session.run(clip)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_sealed_exchange(service: Path, client: Client, expected: Values, tmp_path: Path, protocol: str) -> None:
    run_ok("keygen", "--sealing", "-o", tmp_path / "serve.key")
    from lcve_deploy.sealing import SealingPublicKey

    public = SealingPublicKey.read(tmp_path / "serve.pub")
    clip = client.encrypt(PlainClip(values=inputs_of(REGISTERS)))
    with serving(service / "server", "--open-with", tmp_path / "serve.key", "--sealed-only") as started:
        options = RemoteOptions(seal_to=public)
        address, output = started.address(protocol), client.settings.answer
        with RemoteSession(address, client.settings.binding, options, output=output) as session:
            close(client.plain_order(session.run(clip)), expected)


def test_numbers_in_json(server: Server, client: Client, expected: Values) -> None:
    from lcve_deploy.protocol.binding import binding_to_parameters
    from tests.support import servers

    clip = client.encrypt(PlainClip(values=inputs_of(REGISTERS)))
    fields = {
        "parameters": binding_to_parameters(client.settings.binding),
        "inputs": [
            {
                "name": "clips",
                "datatype": "UINT8",
                "shape": list(clip.values.shape),
                "data": clip.values.reshape(-1).tolist(),
            }
        ],
    }
    status, body = servers.request(
        server.host, server.http, "POST", f"/v2/models/{servers.NAME}/infer", json.dumps(fields).encode()
    )
    assert status == 200, body
    (output,) = json.loads(body)["outputs"]
    assert (output["name"], output["shape"]) == (client.settings.answer.kind.value, list(expected.shape))
    close(client.plain_order(np.array(output["data"], np.float32).reshape(output["shape"])), expected)


def test_the_client_in_javascript(server: Server, client: Client, expected: Values, tmp_path: Path) -> None:
    require_node()
    KEY.write(tmp_path / "key.bin")
    with JavaScriptClient() as javascript:
        _ask_in_javascript(javascript, server, client, expected, (tmp_path / "key.bin").read_bytes())


def _ask_in_javascript(
    javascript: JavaScriptClient, server: Server, client: Client, expected: Values, key: bytes
) -> None:
    clips = np.concatenate([inputs_of(REGISTERS)] * 2)
    received = javascript.call(
        "run",
        address=server.address("http"),
        settings=client_json(client),
        file=python_file(client, clips, Views(temporal=2)),
    )
    values = np.array(received, np.float32)
    close(client.plain_order(values.reshape(2, *expected.shape[1:])), np.repeat(expected, 2, axis=0))
    plain = javascript.call("plain", settings=client_json(client), key=key, values=values.tobytes())
    close(np.reshape(plain, (2, *expected.shape[1:])), np.repeat(expected, 2, axis=0))


def test_triton_is_told_the_output(service: Path, tmp_path: Path) -> None:
    run_ok("triton", f"model={service / 'server'}", "-o", tmp_path / "models")
    manifest = read_manifest(service / "server")
    for folder in (tmp_path / "models").iterdir():
        (output,) = read_config(folder).output
        assert (output.name, tuple(output.dims)) == (manifest.output.name, manifest.output.shape[1:])


# Batches


def test_a_batch_of_pictures(service: Path, client: Client, expected: Values, tmp_path: Path) -> None:
    KEY.write(tmp_path / "key.bin")
    (tmp_path / "pictures").mkdir()
    Image.fromarray(inputs_of(REGISTERS)[0, 0]).save(tmp_path / "pictures/one.png")
    kind = client.settings.answer.kind
    target = ("--artifact", service, "--key", tmp_path / "key.bin", "--workers", 1)
    if kind is OutputKind.TOKENS:
        message = run_error("batch", tmp_path / "pictures", *target, "-o", tmp_path / "none.parquet")
        assert "tokens, which are added to the table only with --logits" in message
    job = Job(key_file=tmp_path / "key.bin", artifact=service, logits=True)
    videos = find_videos([str(tmp_path / "pictures")], pictures=job.takes_pictures())
    (video,), fields = videos, {"row": 0, "path": os.fsencode(videos[0].path), "clip": "0.lcve", "camera": ""}
    with open_stage(tmp_path / "rows.parquet", job.identity(videos)) as stage:
        Worker(job, stage, 1)(pa.Table.from_pylist([fields]))
        with (tmp_path / "rows.parquet").open("wb") as file:
            write_table(file, stage, [video], job)
    (row,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert row["error"] is None
    close(np.array(row[kind.value]), expected)
    if kind is OutputKind.TOKEN_LOGITS:
        assert 0.5 < sum(row["shares"]) <= 1  # five of six classes
        assert set(row["classes"]) <= set(client.settings.classes)
    assert "probabilities" not in row


# What is refused


def test_class_options_without_classes_are_refused(tmp_path: Path) -> None:
    for options in ({"class_names": ("a",)}, {"problem_type": ProblemType.MULTI_LABEL}):
        wanted = CheckpointOptions(output=OutputChoice.TOKENS)
        with pytest.raises(CheckpointError, match=r"tokens \[21, 48\], which have no classes"):
            export(
                *(FOLDERS / REGISTERS, tmp_path / "s"),
                key=KEY,
                options=ExportOptions(checkpoint=wanted, **options),
            )


def test_logits_need_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a classifier in the checkpoint"):
        load_checkpoint(FOLDERS / "dinov3_vit", CheckpointOptions(output=OutputChoice.LOGITS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "heat"}, "expected the name logits, features, tokens, token_logits, received 'heat'"),
        ({"shape": [None, 15, 48]}, "expected 16 to 4112 tokens, received 15"),
        ({"shape": [None, 48]}, r"expected float32 \[null, tokens, "),
        ({"dtype": "float16"}, r"expected float32 \[null, tokens, "),
    ],
)
def test_an_output_that_no_model_has_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str, tokens_service: Path
) -> None:
    import shutil

    shutil.copytree(tokens_service, tmp_path / "copy")
    for path in (tmp_path / "copy/server/manifest.json", tmp_path / "copy/client/client.json"):
        edit_json(path, lambda fields: fields["output"].update(change))
    with pytest.raises(ArtifactError, match=message):
        read_manifest(tmp_path / "copy/server")
    with pytest.raises(ArtifactError, match=message):
        read_client(tmp_path / "copy/client")


@pytest.fixture(scope="module")
def tokens_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    options = ExportOptions(checkpoint=CheckpointOptions(output=OutputChoice.TOKENS))
    export(FOLDERS / REGISTERS, folder / "service", key=KEY, options=options)
    return folder / "service"


def test_a_watch_needs_logits(tokens_service: Path, tmp_path: Path) -> None:
    from lcve_deploy.verbs.watch import Watch
    from lcve_deploy.video.live import LiveSource

    client = Client.open(tokens_service / "client", KEY)
    with pytest.raises(MismatchError, match="expected a model that answers logits"):
        Watch(LiveSource("-"), client, open_session(tokens_service / "server"))


def test_values_that_are_not_finite_are_refused(tokens_service: Path) -> None:
    from lcve_deploy import Classification

    client = Client.open(tokens_service / "client", KEY)
    with pytest.raises(SessionError, match="finite tokens"):
        Classification.of(client, np.full((1, 21, 48), np.nan), views=Views())
    with pytest.raises(MismatchError, match=r"expected tokens \[21, 48\]"):
        client.plain_order(np.zeros((1, 20, 48)))
