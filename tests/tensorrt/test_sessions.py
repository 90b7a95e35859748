"""Opening and running, with stand-ins for CuPy and TensorRT."""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from lcve_deploy import (
    EncryptedClip,
    PlainClip,
    SecurityKey,
    derive_orders,
    encrypt,
    open_session,
)
from lcve_deploy.artifact import Profile, TensorSpec
from lcve_deploy.errors import DeviceError, MismatchError, MissingDependencyError, SessionError
from lcve_deploy.exporters.tensorrt import (
    build_plan,
)
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.libraries.tensorrt import (
    TENSORRT,
    TensorRT,
)
from tests.conftest import GEOMETRY, SECRET
from tests.support import fake_gpu
from tests.support.artifacts import key_of, random_clip
from tests.tensorrt.helpers import (
    GPU,
    H200,
    TINY,
    Graph,
    Machine,
    encrypted,
    open_real,
    oracle_graph,
)


def test_a_session_answers_as_onnx_runtime_does(machine: Machine, exported: Path, clip: np.ndarray) -> None:
    session, reference = machine.open(), open_session(exported / "server")
    for batch in (1, 3, 2):
        clips = encrypted(machine.server, clip, batch)
        logits = session.run(clips)
        assert logits.dtype == np.float32
        assert logits.shape == (batch, 5)
        np.testing.assert_allclose(logits, reference.run(clips), atol=1e-6)
    assert session.model is machine.manifest.model
    assert session.device == f"TensorRT 11.4.0.106 on {GPU}"


def test_answers_stay_when_the_next_batch_runs(machine: Machine, clip: np.ndarray) -> None:
    session = machine.open()
    clips = encrypted(machine.server, clip, 2)
    first = session.run(clips)
    kept = first.copy()
    session.run(EncryptedClip(values=clips.values[::-1], binding=clips.binding))
    np.testing.assert_array_equal(first, kept)


def test_a_batch_on_the_device_is_read_in_place_once_its_stream_has_filled_it(
    machine: Machine, exported: Path, clip: np.ndarray
) -> None:
    session, reference = machine.open(), open_session(exported / "server")
    clips = encrypted(machine.server, clip, 2)
    on_device = fake_gpu.Array(np.zeros_like(clips.values))
    on_device.set(clips.values, stream=fake_gpu.Stream.current)  # queued, not done
    logits = session.run(EncryptedClip(values=on_device, binding=clips.binding))
    np.testing.assert_allclose(logits, reference.run(clips), atol=1e-6)
    assert session._context.addresses["clips"] == on_device.data.ptr


def test_a_batch_on_the_device_that_is_not_contiguous_is_made_so(
    machine: Machine, exported: Path, clip: np.ndarray
) -> None:
    clips = encrypted(machine.server, clip, 2)
    apart = fake_gpu.Array(np.repeat(clips.values, 2, axis=2)[:, :, ::2])
    logits = machine.open().run(EncryptedClip(values=apart, binding=clips.binding))
    np.testing.assert_allclose(logits, open_session(exported / "server").run(clips), atol=1e-6)


def test_a_batch_on_another_gpu_is_refused(machine: Machine, clip: np.ndarray) -> None:
    clips = encrypted(machine.server, clip, 1)
    elsewhere = EncryptedClip(values=fake_gpu.Array(clips.values, device=1), binding=clips.binding)
    with pytest.raises(ValueError, match="expected clips on GPU 0, on which the session runs, received clips on GPU 1"):
        machine.open().run(elsewhere)


def test_threads_take_turns(machine: Machine, exported: Path, clip: np.ndarray) -> None:
    session, reference = machine.open(), open_session(exported / "server")
    batches = [encrypted(machine.server, np.roll(clip, 3 * i, axis=2), 2) for i in range(8)]
    answers: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: answers.update({i: session.run(batches[i])})) for i in range(len(batches))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, batch in enumerate(batches):
        np.testing.assert_allclose(answers[i], reference.run(batch), atol=1e-6)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("clips", [1, 2, 4, 7])
def test_any_number_of_clips_is_answered_by_an_engine_of_some_batch_sizes(
    clips: int, on_device: bool, machine: Machine, exported: Path, clip: np.ndarray
) -> None:
    machine.plan.write_bytes(fake_gpu.plan_of(exported / "server/model.onnx", (2, 2, 3)))
    session = machine.open(profile=Profile(minimum=2, optimum=2, maximum=3))
    stack = encrypted(machine.server, clip, clips)
    values = fake_gpu.Array(stack.values) if on_device else stack.values
    logits = session.run(EncryptedClip(values=values, binding=stack.binding))
    np.testing.assert_allclose(logits, open_session(exported / "server").run(stack), atol=1e-6)


def test_a_batch_that_mixes_keys_answers_as_each_clip_alone(machine: Machine, fleet: Path) -> None:
    session, reference = dataclasses.replace(machine, server=fleet).open(max_keys=2), open_session(fleet)
    order = ("main", "a", "b", "a", "c")
    clips = [random_clip(fleet, 1 + i % 2, seed=i, name=name) for i, name in enumerate(order)]
    alone = np.concatenate([reference.run(clip) for clip in clips])
    for _ in range(3):
        np.testing.assert_allclose(session.run_batch(clips), alone, atol=1e-6)


def test_filled_clips_have_rows_too(machine: Machine, exported: Path, fleet: Path) -> None:
    machine.plan.write_bytes(fake_gpu.plan_of(exported / "server/model.onnx", (3, 3, 3)))
    session = dataclasses.replace(machine, server=fleet).open(profile=Profile(minimum=3, optimum=3, maximum=3))
    clips = [random_clip(fleet, 1, seed=i, name=name) for i, name in enumerate(("main", "a"))]
    alone = np.concatenate([open_session(fleet).run(clip) for clip in clips])
    np.testing.assert_allclose(session.run_batch(clips), alone, atol=1e-6)


def test_more_keys_than_the_engine_was_built_for_are_refused(machine: Machine) -> None:
    with pytest.raises(SessionError, match="was built for 1 to 64 keys in memory, received 65"):
        machine.open(max_keys=65)


def test_no_clip_is_refused_before_anything_runs(machine: Machine, clip: np.ndarray) -> None:
    session, clips = machine.open(), encrypted(machine.server, clip, 1)
    with pytest.raises(ValueError, match="expected at least one clip, received none"):
        session.run(EncryptedClip(values=clips.values[:0], binding=clips.binding))
    assert session._context.enqueued == []


def test_a_clip_of_another_artifact_is_refused_before_anything_runs(machine: Machine, clip: np.ndarray) -> None:
    session = machine.open()
    orders = derive_orders(SecurityKey(SECRET), salt=bytes(16), geometry=GEOMETRY)
    with pytest.raises(MismatchError, match="salt"):
        session.run(encrypt(PlainClip(values=clip[None]), orders))
    assert session._context.enqueued == []


@pytest.mark.parametrize(
    ("built_with", "compatible", "opens"),
    [
        ("11.4.0.106", False, True),
        ("11.3.0.99", False, False),
        ("11.3.0.99", True, True),
        ("12.0.0.1", True, False),
        ("12.0.0.1", False, False),
    ],
)
def test_an_engine_of_another_version_says_which_and_how_to_rebuild(
    built_with: str, compatible: bool, opens: bool, machine: Machine
) -> None:
    if opens:
        session = machine.open(
            builder={TENSORRT: built_with}, options={"version_compatible": "yes"} if compatible else {}
        )
        assert getattr(session._runtime, "engine_host_code_allowed", False) is compatible
        return
    with pytest.raises(
        SessionError, match=f"was built by TensorRT {built_with}.*installed version is TensorRT 11"
    ) as caught:
        machine.open(builder={TENSORRT: built_with}, options={"version_compatible": "yes"} if compatible else {})
    assert f"lcve build {machine.plan.parents[2]} --runtime tensorrt" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"plan", b"PK\x03\x04 a foreign file"])
def test_a_truncated_or_foreign_plan_is_one_clear_error(content: bytes, machine: Machine) -> None:
    machine.plan.write_bytes(content)
    with pytest.raises(SessionError, match=r"is damaged or not an engine of TensorRT 11.*magic tag does not match"):
        machine.open()


def test_the_real_library_refuses_a_truncated_plan(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    from lcve_deploy.runtime.backends import tensorrt as room

    build_plan(tiny.model, tmp_path / "plan", library=rtx, spec=tiny.spec)
    content = (tmp_path / "plan").read_bytes()
    (tmp_path / "plan").write_bytes(content[: len(content) // 2])
    runtime = rtx.module.Runtime(rtx.log.logger)
    with pytest.raises(SessionError, match=r"plan"):
        room._open(tmp_path / "plan", runtime, rtx)


@pytest.mark.parametrize(
    ("diagnostics", "error", "says"),
    [
        (["UNSUPPORTED_CC"], DeviceError, "it was not built for this GPU"),
        (["OLD_CUDA_DRIVER", "CUDA_ERROR"], DeviceError, "the GPU's driver is too old, CUDA does not work"),
        (["VERSION_MISMATCH"], SessionError, "another version built it"),
        (
            ["VERSION_MISMATCH", "UNSUPPORTED_CC"],
            SessionError,
            "another version built it, it was not built for this GPU",
        ),
        ([], SessionError, "it gave no reason"),
    ],
)
def test_what_the_library_knows_from_the_header_is_said(
    diagnostics: list[str], error: type[SessionError], says: str, machine: Machine, rtx: TensorRT
) -> None:
    for name in ("EngineValidity", "EngineInvalidityDiagnostics"):  # which TensorRT-RTX alone has
        setattr(machine.module, name, getattr(rtx.module, name))
    flags = machine.module.EngineInvalidityDiagnostics.__members__
    found = sum(int(flags[name]) for name in diagnostics)
    validity = machine.module.EngineValidity
    machine.module.Runtime.get_engine_validity = lambda runtime, content: (validity.VALID, 0)
    assert machine.open().device
    machine.module.Runtime.get_engine_validity = lambda runtime, content: (validity.INVALID, found)
    with pytest.raises(SessionError, match=r"cannot run .* on this machine") as caught:
        machine.open()
    assert type(caught.value) is error
    assert sorted(str(caught.value).split("this machine: ")[1].split(", ")) == sorted(says.split(", "))
    assert "rebuild the engine here" in caught.value.hint


def test_no_rebuild_is_advised_where_the_library_has_no_kernels_for_the_gpu(
    machine: Machine, rtx: TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EngineValidity", "EngineInvalidityDiagnostics", "ComputeCapability"):
        setattr(machine.module, name, getattr(rtx.module, name))
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda number=0: H200)
    found = int(machine.module.EngineInvalidityDiagnostics.UNSUPPORTED_CC)
    machine.module.Runtime.get_engine_validity = lambda *_: (machine.module.EngineValidity.INVALID, found)
    with pytest.raises(DeviceError, match="it was not built for this GPU") as caught:
        machine.open()
    assert "has no kernels for NVIDIA H200 (compute capability 9.0)" in caught.value.hint
    assert "--runtime onnxruntime --provider cuda" in caught.value.hint
    assert "rebuild the engine here" not in caught.value.hint


def test_a_stripped_plan_gets_its_weights_when_it_is_opened(
    machine: Machine, tmp_path: Path, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = oracle_graph(TINY, tmp_path)
    clips = encrypted(machine.server, clip, 2)
    feed = {f"bank.{name}": tensor[None] for name, tensor in key_of(machine.server).tensors().items()}
    feed |= {"clips": clips.values, "key": np.zeros(2, np.int64)}
    (expected,) = onnxruntime.InferenceSession(graph.model).run(["logits"], feed)
    np.testing.assert_allclose(machine.open(weights=graph.model).run(clips), expected, atol=1e-6)
    monkeypatch.setattr(machine.module.OnnxParserRefitter, "refit_from_file", lambda parser, path: False)
    with pytest.raises(SessionError, match="do not fit"):
        machine.open(weights=graph.model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input": TensorSpec(name="clips", dtype="uint8", shape=(None, 64, 385))}, "385"),
        ({"output": TensorSpec(name="logits", dtype="float16", shape=(None, 5))}, "float16"),
        ({"output": TensorSpec(name="scores", dtype="float32", shape=(None, 5))}, "scores"),
    ],
)
def test_an_engine_that_is_not_what_the_manifest_says_is_refused(
    change: dict[str, Any], says: str, machine: Machine
) -> None:
    other = dataclasses.replace(
        machine,
        manifest=dataclasses.replace(machine.manifest, model=dataclasses.replace(machine.manifest.model, **change)),
    )
    with pytest.raises(SessionError, match=f"its manifest says .*{says}"):
        other.open()


def test_an_engine_of_other_batches_than_its_record_says_is_refused(machine: Machine) -> None:
    with pytest.raises(SessionError, match=r"built for batches of \(1, 2, 3\), but its record says 1:2:8"):
        machine.open(profile=Profile(minimum=1, optimum=2, maximum=8))


def test_opening_without_a_gpu_is_one_sentence(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda number=0: None)
    with pytest.raises(DeviceError) as caught:
        machine.open()
    assert str(caught.value) == "TensorRT needs an NVIDIA GPU and its driver, but none was found"
    assert "CPU" in caught.value.hint


@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")
def test_a_real_engine_on_this_machine_without_a_gpu_is_one_sentence(
    tiny: Graph, rtx: TensorRT, exported: Path, tmp_path: Path
) -> None:
    build_plan(tiny.model, tmp_path / "plan", library=rtx, spec=tiny.spec)
    with pytest.raises(SessionError, match="TensorRT-RTX needs an NVIDIA GPU and its driver, but none was found"):
        open_real(tmp_path / "plan", exported / "server", rtx, Profile())


def test_missing_cupy_says_what_to_install(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingDependencyError, match="CuPy") as caught:
        machine.open()
    assert caught.value.hint == "pip install 'lcve-deploy[tensorrt]'"


def test_too_little_memory_for_the_buffers_is_one_clear_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(shape: object, dtype: object) -> None:
        raise fake_gpu.OutOfMemoryError("Out of memory allocating 9,999 bytes")

    monkeypatch.setattr(sys.modules["cupy"], "empty", full)
    with pytest.raises(SessionError, match="too little memory to open the engine: Out of memory") as caught:
        machine.open()
    assert "smaller maximum batch" in caught.value.hint


def test_too_little_memory_for_the_engine_is_one_clear_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_gpu.Engine, "create_execution_context", lambda engine: None)
    with pytest.raises(SessionError, match="cannot prepare the engine") as caught:
        machine.open()
    assert "smaller maximum batch" in caught.value.hint


def test_a_run_that_fails_is_one_clear_error(
    machine: Machine, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, clips = machine.open(), encrypted(machine.server, clip, 1)

    def fail(stream: object) -> None:
        raise fake_gpu.CUDARuntimeError("cudaErrorIllegalAddress")

    monkeypatch.setattr(fake_gpu.Context, "execute_async_v3", lambda context, stream: False)
    with pytest.raises(SessionError, match=r"TensorRT 11\.4\.0\.106 failed: it gave no reason"):
        session.run(clips)
    monkeypatch.undo()
    monkeypatch.setattr(fake_gpu.Event, "synchronize", fail)
    with pytest.raises(SessionError, match="CUDA could not run the engine: cudaErrorIllegalAddress"):
        session.run(clips)
