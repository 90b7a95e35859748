"""``lcve triton``: the repository that it writes, and a real Triton that serves it as it is."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import PublicKey, TritonOptions, add_to_triton, export_triton
from lcve_deploy.artifact import read_manifest
from lcve_deploy.deployments.triton.model_folder import read_config
from lcve_deploy.errors import ArtifactError, ExistsError, MismatchError, ParityError, SignatureError
from lcve_deploy.exporters import storage
from lcve_deploy.protocol.binding import binding_from_parameters
from tests.conftest import ORACLES, run_error, run_ok
from tests.support.artifacts import KEY, add_key, binding_of, contents, editing_key, flip_a_byte, key_folder, key_of
from tests.triton.server import Triton, start_triton

TINY = ORACLES["v1_model_args"]
on_triton = pytest.mark.xdist_group("triton")


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    run_ok("triton", f"actions={exported / 'server'}", "-o", tmp_path / "models", "--max-batch", 4)
    return tmp_path / "models"


@pytest.fixture
def several(artifact: Path, key_file: Path, tmp_path: Path) -> Path:
    """A model folder with three keys."""
    for name in ("camera-7", "camera-8"):
        run_ok("enroll", artifact, "--key", key_file, "--name", name, "-o", tmp_path / name)
        add_key(artifact / "server", tmp_path / name / "server", name)
        shutil.rmtree(tmp_path / name)
    return artifact / "server"


# What is written


def test_a_repository_has_config_version_and_warm_up(exported: Path, repository: Path) -> None:
    server, model = exported / "server", repository / "actions-main"
    assert sorted(contents(model)) == ["1/model.onnx", "config.pbtxt", "warmup/probe"]
    assert (model / "warmup/probe").read_bytes() == key_of(server).probe().clip[0].tobytes()
    config = read_config(model)
    assert (config.name, config.platform, config.backend) == ("actions-main", "onnxruntime_onnx", "onnxruntime")
    assert (config.max_batch_size, config.default_model_filename) == (4, "model.onnx")
    assert [(x.name, list(x.dims)) for x in (*config.input, *config.output)] == [("clips", [64, 384]), ("logits", [5])]
    said = {name: value.string_value for name, value in config.parameters.items()}
    assert binding_from_parameters(said) == binding_of(server)
    assert [sample.batch_size for sample in config.model_warmup] == [1, 4]


def test_every_key_is_a_model_that_runs_by_itself(several: Path, tmp_path: Path) -> None:
    import onnxruntime

    shown = run_ok("triton", f"actions={several}", "-o", tmp_path / "models")
    names = ["actions-camera-7", "actions-camera-8", "actions-main"]
    assert [line.partition("/")[0] for line in shown.splitlines()[:-1]] == names
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == names
    for name in names:
        key = key_of(several, name.removeprefix("actions-"))
        said = {name: value.string_value for name, value in read_config(tmp_path / "models" / name).parameters.items()}
        assert binding_from_parameters(said) == key.manifest.binding
        session = onnxruntime.InferenceSession(tmp_path / "models" / name / "1/model.onnx")
        assert [value.name for value in session.get_inputs()] == ["clips"]
        (logits,) = session.run(None, {"clips": key.probe().clip})
        np.testing.assert_allclose(logits, key.probe().logits, atol=read_manifest(several).parity.tolerance)


def test_keys_are_chosen_by_name(several: Path, tmp_path: Path) -> None:
    names = ("--key-name", "camera-8", "--key-name", "main")
    answer = json.loads(run_ok("triton", f"a={several}", "-o", tmp_path / "models", *names, "--json"))
    assert [model["name"] for model in answer["models"]] == ["a-camera-8", "a-main"]
    assert answer["models"][0]["salt"] == binding_of(several, "camera-8").salt
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"a-camera-8", "a-main"}


def test_options_are_in_the_configuration(exported: Path, tmp_path: Path) -> None:
    run_ok(
        *("triton", f"m={exported / 'server'}", "-o", tmp_path / "models", "--model-version", 7, "--versions", "all"),
        *("--max-batch", 16, "--preferred-batch", 8, "--preferred-batch", 4, "--queue-delay", 1.5, "--max-queue", 99),
        *("--queue-timeout", 250, "--instances", 2, "--gpu"),
    )
    config = read_config(tmp_path / "models/m-main")
    batching, (group,) = config.dynamic_batching, config.instance_group
    assert (tmp_path / "models/m-main/7/model.onnx").is_file()
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    assert (config.max_batch_size, list(batching.preferred_batch_size)) == (16, [4, 8])
    assert (batching.max_queue_delay_microseconds, group.count, group.kind) == (1500, 2, group.KIND_GPU)
    policy = batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (99, 250_000)
    assert policy.timeout_action == policy.REJECT
    assert policy.allow_timeout_override
    assert [sample.batch_size for sample in config.model_warmup] == [1, 4, 8, 16]


def test_a_folder_names_its_model(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported / "server", tmp_path / "walking")
    shown = run_ok("triton", exported / "server", tmp_path / "walking", "-o", tmp_path / "models")
    assert shown.startswith("service-main/1: onnxruntime_onnx, batches of 1 to 8\n")
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"service-main", "walking-main"}
    answer = json.loads(run_ok("triton", f"a={tmp_path / 'walking'}", "-o", tmp_path / "more", "--json"))
    key = binding_of(exported / "server").key
    about = {"platform": "onnxruntime_onnx", "max_batch": 8, "key_id": key.key_id, "salt": key.salt}
    assert answer["models"] == [{"name": "a-main", "version": 1, **about}]


def test_weights_beside_the_graph_come_along(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "EXTERNAL_DATA_BYTES", 0)
    run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "service", *TINY.flags)
    run_ok("triton", tmp_path / "service/server", "-o", tmp_path / "models")
    assert set(contents(tmp_path / "models/service-main/1")) == {"model.onnx", "model.onnx.data"}


# What is refused


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a={}", "a={}"), "two models are called a"),
        (("{}", "service={}"), "two models are called service"),
        (("../a={}",), "a model's name of"),
        (("a b={}",), "a model's name of"),
        ((".a={}",), "a model's name of"),
        (("={}",), "a model's name of"),
        (("a=/none",), "expected manifest.json"),
    ],
)
def test_a_bad_name_is_one_clear_error(exported: Path, tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    servers = [name.format(exported / "server") for name in names]
    assert said in run_error("triton", *servers, "-o", tmp_path / "models")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-batch", 0), "max-batch"),
        (("--max-batch", 4, "--preferred-batch", 8), "exceed the maximum"),
        (("--versions", "none"), "at least 1, or all"),
        (("--model-version", 0), "version"),
        (("--queue-delay", -1), "queue-delay"),
        (("--key-name", "none"), "has no key folder none"),
        (("--key-name", "main", "--key-name", "../main"), "has no key folder ../main"),
    ],
)
def test_a_bad_option_is_one_clear_error(
    exported: Path, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    assert said in run_error("triton", exported / "server", "-o", tmp_path / "models", *options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.onnx", f"keys/{KEY}/keyed.safetensors", f"keys/{KEY}/probe.safetensors"])
def test_a_damaged_artifact_leaves_nothing(artifact: Path, exported: Path, tmp_path: Path, name: str) -> None:
    flip_a_byte(artifact / "server" / name)
    before = sorted(tmp_path.rglob("*"))
    servers = (f"a={exported / 'server'}", f"b={artifact / 'server'}")
    assert "a different SHA-256" in run_error("triton", *servers, "-o", tmp_path / "models")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_without_keys_is_refused(artifact: Path, tmp_path: Path) -> None:
    shutil.rmtree(artifact / "server/keys")
    assert "has no key folder" in run_error("triton", artifact / "server", "-o", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_graph_that_fails_the_probe_of_its_key_is_not_written(artifact: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    server = artifact / "server"
    with editing_key(key_folder(server)):
        path = key_folder(server) / "keyed.safetensors"
        tensors = load_file(path)
        save_file(tensors | {"head.bias": tensors["head.bias"][::-1].copy()}, path)
    with pytest.raises(ParityError):
        export_triton({"a": server}, tmp_path / "models", TritonOptions())
    assert not (tmp_path / "models").exists()


def test_nothing_is_overwritten(exported: Path, repository: Path) -> None:
    before = contents(repository)
    assert "nothing is overwritten" in run_error("triton", exported / "server", "-o", repository)
    assert contents(repository) == before


def test_a_pin_is_heeded(artifact: Path, tmp_path: Path) -> None:
    for name in ("signing", "other"):
        run_ok("keygen", "--signing", "-o", tmp_path / f"{name}.pem")
    server, key, other = artifact / "server", tmp_path / "signing.pub", PublicKey.read(tmp_path / "other.pub")
    assert "is not signed" in run_error("triton", server, "-o", tmp_path / "models", "--signed-by", key)
    run_ok("sign", server, "--signing-key", tmp_path / "signing.pem")
    with pytest.raises(SignatureError):
        export_triton({"a": server}, tmp_path / "models", TritonOptions(), signed_by=other)
    run_ok("triton", server, "-o", tmp_path / "models", "--signed-by", key)
    with pytest.raises(SignatureError):
        add_to_triton({"b": server}, tmp_path / "models", TritonOptions(), signed_by=other)
    (key_folder(server) / "key.sig").unlink()
    assert "is not signed" in run_error("triton", server, "-o", tmp_path / "more", "--signed-by", key)


# Adding


def test_models_and_versions_are_added_whole(exported: Path, repository: Path) -> None:
    server, config = exported / "server", (repository / "actions-main/config.pbtxt").read_bytes()
    run_ok("triton", f"actions={server}", f"other={server}", "-o", repository, "--add", "--model-version", 2)
    assert {path.name for path in (repository / "actions-main").iterdir()} == {"1", "2", "config.pbtxt", "warmup"}
    assert (repository / "actions-main/config.pbtxt").read_bytes() == config
    assert contents(repository / "actions-main/2") == contents(repository / "actions-main/1")
    assert {path.name for path in repository.iterdir()} == {"actions-main", "other-main"}
    assert [path.name for path in repository.parent.iterdir()] == ["models"]
    with pytest.raises(ExistsError, match="2 exists"):
        add_to_triton({"new": server, "actions": server}, repository, TritonOptions(version=2))
    assert {path.name for path in repository.iterdir()} == {"actions-main", "other-main"}


def test_a_key_is_added_alone(several: Path, repository: Path) -> None:
    before = contents(repository)
    run_ok("triton", f"actions={several}", "-o", repository, "--add", "--key-name", "camera-7")
    assert {path.name for path in repository.iterdir()} == {"actions-main", "actions-camera-7"}
    assert contents(repository).items() >= before.items()


def test_a_version_must_fit_the_configuration_of_its_model(artifact: Path, repository: Path, key_file: Path) -> None:
    server, renewed = artifact / "server", repository.parent / "renewed"
    with pytest.raises(MismatchError, match="max_batch_size"):
        add_to_triton({"actions": server}, repository, TritonOptions(version=2, max_batch=2))
    run_ok("rotate", artifact, "--key", key_file, "-o", renewed)
    shutil.rmtree(key_folder(server))
    add_key(server, renewed / "server", KEY)
    with pytest.raises(MismatchError, match=r"differs .* in parameters"):
        add_to_triton({"actions": server}, repository, TritonOptions(version=2))
    (repository / "actions-main/config.pbtxt").write_text("no { configuration")
    with pytest.raises(ArtifactError, match="not a valid model configuration"):
        add_to_triton({"actions": server}, repository, TritonOptions(version=2))
    assert not (repository / "actions-main/2").exists()
    with pytest.raises(ArtifactError, match="found no folder"):
        add_to_triton({"actions": server}, repository.parent / "none", TritonOptions())


# With a real Triton


def ask(server: Triton, model: str, clips: np.ndarray, name: str = "logits", **more: Any) -> np.ndarray:
    """Logits over gRPC, by the client that everyone uses."""
    import tritonclient.grpc as over_grpc

    value = over_grpc.InferInput("clips", list(clips.shape), "UINT8")
    value.set_data_from_numpy(clips)
    with over_grpc.InferenceServerClient(server.grpc) as client:
        return client.infer(model, [value], **more).as_numpy(name)


def is_ready(server: Triton, model: str, version: str = "") -> bool:
    import tritonclient.grpc as over_grpc

    with over_grpc.InferenceServerClient(server.grpc) as client:
        return bool(client.is_model_ready(model, version))


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def served(exported: Path, key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Triton]]:
    """A repository of three models, one added later, and the server that watches it."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "EXTERNAL_DATA_BYTES", 0)
        flags = (*TINY.flags, "--layout", "video")
        run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", folder / "video", *flags)
    servers = (f"cubes={exported / 'server'}", f"video={folder / 'video/server'}")
    run_ok("triton", *servers, "-o", folder / "models", "--max-batch", 4, "--versions", "all")
    with start_triton(folder / "models", folder, "--model-control-mode=poll", "--repository-poll-secs=1") as server:
        yield folder, server


@on_triton
def test_triton_answers_every_models_probe(exported: Path, served: tuple[Path, Triton]) -> None:
    folder, triton = served
    for name, source in (("cubes", exported / "server"), ("video", folder / "video/server")):
        probe = key_of(source).probe()
        answer = ask(triton, f"{name}-main", probe.clip)
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, probe.logits, atol=read_manifest(source).parity.tolerance)


@on_triton
def test_triton_warms_up_with_the_probe_before_it_is_ready(served: tuple[Path, Triton]) -> None:
    log = served[1].log
    for name in ("cubes", "video"):
        assert f"{name}-main/1 runs batches of [1]" in log
        assert f"{name}-main/1 runs batches of [1, 1, 1, 1]" in log
        assert log.index(f"{name}-main/1 runs batches") < log.index("Started GRPCInferenceService")


@on_triton
def test_triton_says_the_binding(exported: Path, served: tuple[Path, Triton]) -> None:
    import tritonclient.grpc as over_grpc

    with over_grpc.InferenceServerClient(served[1].grpc) as client:
        config = client.get_model_config("cubes-main").config
    said = {name: value.string_value for name, value in config.parameters.items()}
    assert binding_from_parameters(said) == binding_of(exported / "server")


@on_triton
def test_triton_takes_what_is_added_while_it_runs(exported: Path, served: tuple[Path, Triton]) -> None:
    folder, triton = served
    run_ok("triton", f"later={exported / 'server'}", "-o", folder / "models", "--add")
    run_ok(
        "triton",
        f"cubes={exported / 'server'}",
        "-o",
        folder / "models",
        "--add",
        "--model-version",
        2,
        "--max-batch",
        4,
    )
    until(lambda: is_ready(triton, "later-main") and is_ready(triton, "cubes-main", "2"))
    assert is_ready(triton, "cubes-main", "1")
    clip = np.zeros((1, 64, 384), np.uint8)
    np.testing.assert_array_equal(ask(triton, "later-main", clip), ask(triton, "cubes-main", clip, model_version="2"))
    assert "failed to load" not in triton.log


@on_triton
def test_triton_reads_the_warm_up(repository: Path, tmp_path: Path) -> None:
    """That it is read is seen where it cannot be."""
    (repository / "actions-main/warmup/probe").write_bytes(b"too short")
    with start_triton(repository, tmp_path, "--exit-on-error=false", strict=False) as triton:
        until(lambda: "failed to load 'actions-main'" in triton.log)
        assert not is_ready(triton, "actions-main")


@on_triton
def test_triton_refuses_what_waits_too_long_or_beyond_the_queue(exported: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from tritonclient.utils import InferenceServerException

    server = exported / "server"
    run_ok(
        *("triton", f"full={server}", "-o", tmp_path / "models", "--max-batch", 1, "--max-queue", 1),
        *("--queue-delay", 0),
    )
    run_ok("triton", f"late={server}", "-o", tmp_path / "models", "--add", "--max-batch", 1, "--queue-timeout", 100)
    for name in ("full-main", "late-main"):
        with (tmp_path / f"models/{name}/config.pbtxt").open("a") as file:
            file.write('parameters { key: "tests_wait" value { string_value: "0.5" } }\n')
    clip = np.zeros((1, 64, 384), np.uint8)

    def answer(triton: Triton, name: str) -> str:
        try:
            return str(ask(triton, name, clip).shape)
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"

    with start_triton(tmp_path / "models", tmp_path) as triton, ThreadPoolExecutor(5) as pool:
        for name, said in (("full-main", "exceeds maximum queue size"), ("late-main", "Request timeout expired")):
            answers = list(pool.map(lambda _, name=name: answer(triton, name), range(5)))
            assert "(1, 5)" in answers
            refused = [text for text in answers if text != "(1, 5)"]
            assert refused
            assert all(text.startswith("StatusCode.UNAVAILABLE") and said.lower() in text.lower() for text in refused)
