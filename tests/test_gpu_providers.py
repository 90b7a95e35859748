"""ONNX Runtime's providers for GPUs: TF32, libraries, probe and device; with a stand-in, and on a GPU."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import SessionOptions, open_session
from lcve_deploy.artifact import read_engine, read_manifest, read_probe
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import ParityError, SessionError, UnprovenError
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.runtime import verify_engine
from lcve_deploy.runtime.session import Provider
from lcve_deploy.verbs.build import BuildOptions, build
from tests.conftest import run_error, run_ok
from tests.support import fake_cuda_provider
from tests.support.artifacts import binding_of
from tests.support.fake_cuda_provider import GPUS, FakeCuda

CUDA = SessionOptions(provider=Provider.CUDA)


@pytest.fixture
def server(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCVE_ENGINE_SECRET", str(tmp_path / "engine-secret"))
    folder = tmp_path / "server"
    shutil.copytree(exported / "server", folder)
    return folder


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda_provider.install(monkeypatch)


def probe_clip(server: Path) -> EncryptedClip:
    manifest = read_manifest(server)
    return EncryptedClip(values=read_probe(server, manifest).clip, binding=binding_of(server))


def test_tf32_is_off_unless_it_is_asked_for(server: Path, cuda: FakeCuda) -> None:
    session = open_session(server, CUDA)
    assert cuda.options == [{"use_tf32": "0"}]
    clip = probe_clip(server)
    np.testing.assert_allclose(session.run(clip), open_session(server).run(clip), atol=1e-5)


@pytest.mark.parametrize("provider", [Provider.TENSORRT, Provider.TENSORRT_RTX])
def test_tf32_is_off_in_providers_that_have_no_option_for_it(server: Path, cuda: FakeCuda, provider: Provider) -> None:
    open_session(server, SessionOptions(provider=provider))
    assert cuda.options == [{}]
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


@pytest.mark.parametrize("provider", [Provider.CUDA, Provider.TENSORRT])
def test_a_graph_with_tf32_fails_the_probe_when_it_is_opened(server: Path, cuda: FakeCuda, provider: Provider) -> None:
    options = SessionOptions(provider=provider, provider_options={"use_tf32": "1"})
    with pytest.raises(ParityError, match=r"fails the probe on onnxruntime .* max \|Δlogit\|") as caught:
        open_session(server, options)
    assert f"lcve build {server} --provider {provider} --provider-option use_tf32=1 --budget" in caught.value.hint


def test_a_provider_that_computes_something_else_is_refused(
    server: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = fake_cuda_provider.FakeBinding.copy_outputs_to_cpu
    wrong = lambda binding: [logits + 0.1 for logits in copy(binding)]  # noqa: E731
    monkeypatch.setattr(fake_cuda_provider.FakeBinding, "copy_outputs_to_cpu", wrong)
    with pytest.raises(ParityError, match="fails the probe") as caught:
        open_session(server, CUDA)
    assert "another provider" in caught.value.hint


def test_an_engine_with_a_budget_may_use_tf32(server: Path, cuda: FakeCuda) -> None:
    options = BuildOptions(provider=Provider.CUDA, provider_options={"use_tf32": "1"}, budget=0.01, name="rounded")
    record = build(server, options)
    assert record.options["use_tf32"] == "1"
    assert record.proof is not None
    assert record.proof.max_difference > read_manifest(server).parity.tolerance
    open_session(server, SessionOptions(engine="rounded"))
    assert [seen["use_tf32"] for seen in cuda.options] == ["1", "1"]
    with pytest.raises(ParityError):
        build(server, BuildOptions(provider=Provider.CUDA, provider_options={"use_tf32": "1"}))


def test_the_libraries_are_loaded_once_and_before_the_first_session(server: Path, cuda: FakeCuda) -> None:
    open_session(server)
    assert cuda.preloaded == []
    open_session(server, CUDA)
    open_session(server, CUDA)
    assert cuda.preloaded == [0]


def test_the_error_names_the_library_that_is_missing(
    server: Path, cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: str) -> None:
        raise OSError("libcublasLt.so.12: cannot open shared object file: No such file or directory")

    cuda.starts = False
    fake_cuda_provider.lacking(tmp_path, monkeypatch, load)
    with pytest.raises(SessionError, match=r"fell back to CPUExecutionProvider: libcublasLt\.so\.12: cannot") as caught:
        open_session(server, CUDA)
    assert "pip install 'lcve-deploy[gpu]'" in caught.value.hint


def test_with_all_libraries_there_the_error_tells_the_driver(
    server: Path, cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.starts = False
    fake_cuda_provider.lacking(tmp_path, monkeypatch, lambda path: None)
    monkeypatch.setattr("lcve_deploy.runtime.backends.onnxruntime.driver_version", lambda: "12.4")
    with pytest.raises(SessionError, match=r"fell back to CPUExecutionProvider$") as caught:
        open_session(server, CUDA)
    assert "the driver here supports CUDA 12.4 at most" in caught.value.hint


def test_the_device_is_passed_on_and_its_name_is_in_the_proof(server: Path, cuda: FakeCuda) -> None:
    session = open_session(server, SessionOptions(provider=Provider.CUDA, device=1))
    assert cuda.options == [{"use_tf32": "0", "device_id": "1"}]
    assert session.device.endswith(f", CUDAExecutionProvider, {GPUS[1]}")
    build(server, BuildOptions(provider=Provider.CUDA))
    name = "onnxruntime-cuda-fp32"
    assert open_session(server, SessionOptions(engine=name, device=0)).device.endswith(str(GPUS[0]))
    with pytest.raises(UnprovenError, match=r"passed the probe on .*Nonesuch.*, but not on .*Otherwise"):
        open_session(server, SessionOptions(engine=name, device=1))
    assert verify_engine(server, name, device=1).ok
    proof = read_engine(server, name).proof
    assert proof is not None
    assert proof.device.endswith(str(GPUS[1]))
    assert open_session(server, SessionOptions(engine=name, device=1)).device == proof.device


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": 1}, "needs a provider that runs on GPUs, or an engine"),
        ({"device": -1, "provider": "cuda"}, "from 0 to 1023, received -1"),
        ({"device": 1, "provider": "cuda", "provider_options": {"device_id": "1"}}, "expected the GPU once"),
    ],
)
def test_a_device_that_makes_no_sense_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SessionOptions(**options)  # type: ignore[arg-type]


def test_the_command_takes_a_gpu_only_where_one_is_used(server: Path, cuda: FakeCuda) -> None:
    assert "--device is for" in run_error("verify", server, "--device", 1)
    assert "--device is for" in run_error("serve", f"model={server}", "--device", 1)
    build(server, BuildOptions(provider=Provider.CUDA, name="there"))
    run_ok("verify", server, "--engine", "there", "--device", 1)
    assert cuda.options[-1]["device_id"] == "1"


def test_an_engine_on_the_cpu_takes_no_gpu(server: Path) -> None:
    build(server, BuildOptions(name="here"))
    with pytest.raises(SessionError, match="the engine here runs on the CPU, received GPU 1 for it"):
        open_session(server, SessionOptions(engine="here", device=1))


def test_a_gpu_that_fails_in_a_run_is_one_clear_error(server: Path, cuda: FakeCuda) -> None:
    session = open_session(server, CUDA)
    cuda.fails = RuntimeError("CUDA failure 2: out of memory")
    with pytest.raises(SessionError, match="ONNX Runtime failed: CUDA failure 2: out of memory"):
        session.run(probe_clip(server))


def test_the_extra_of_the_gpu_brings_what_the_provider_links_to() -> None:
    """``cudnn`` brings cuBLAS too; version 1.24.1 and later have both extras."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    (package,) = [text for text in project["optional-dependencies"]["gpu"] if text.startswith("onnxruntime-gpu")]
    assert package == "onnxruntime-gpu[cuda,cudnn]>=1.24.1"


@pytest.mark.gpu(library="onnxruntime")
def test_gpu_the_cuda_provider_answers_the_probe_without_tf32(server: Path) -> None:
    session = open_session(server, CUDA)
    assert str(find_gpu()) in session.device
    clip = probe_clip(server)
    np.testing.assert_allclose(session.run(clip), open_session(server).run(clip), atol=1e-4)
