"""Copies that overlap kernels, buffers that threads share, and the GPU that a session runs on; with stand-ins."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import EncryptedClip, open_session
from lcve_deploy.artifact import Profile
from lcve_deploy.errors import DeviceError, SessionError
from lcve_deploy.runtime.backends.tensorrt import TensorRTSession
from tests.support import fake_gpu
from tests.tensorrt.helpers import GPU, H200, Machine, encrypted


def set_sizes(machine: Machine, exported: Path, sizes: tuple[int, int, int]) -> dict[str, Any]:
    machine.plan.write_bytes(fake_gpu.plan_of(exported / "server/model.onnx", sizes))
    return {"profile": Profile(minimum=sizes[0], optimum=sizes[1], maximum=sizes[2])}


def test_a_batch_is_enqueued_before_the_one_before_it_is_read(
    machine: Machine, exported: Path, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = machine.open(**set_sizes(machine, exported, (1, 1, 1)))
    order: list[str] = []
    enqueue, wait = fake_gpu.Context.execute_async_v3, fake_gpu.Event.synchronize
    monkeypatch.setattr(
        fake_gpu.Context, "execute_async_v3", lambda context, s: order.append("enqueue") or enqueue(context, s)
    )
    monkeypatch.setattr(fake_gpu.Event, "synchronize", lambda event: order.append("wait") or wait(event))
    clips = encrypted(machine.server, clip, 4)
    logits = session.run(clips)
    assert order == ["enqueue", "enqueue", "wait", "enqueue", "wait", "enqueue", "wait", "wait"]
    assert len({address for _, address in session._context.enqueued}) == 2
    np.testing.assert_allclose(logits, open_session(exported / "server").run(clips), atol=1e-6)


def test_clips_go_straight_into_pinned_memory(
    machine: Machine, exported: Path, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = machine.open(**set_sizes(machine, exported, (3, 3, 3)))
    clips, real, sources = encrypted(machine.server, clip, 2), np.copyto, list[np.ndarray]()
    pinned = session._pipeline._free.get()
    session._pipeline._free.put(pinned)

    def copy(to: np.ndarray, values: np.ndarray) -> None:
        if np.shares_memory(to, pinned.host_clips["clips"]):
            sources.append(values)
        real(to, values)

    monkeypatch.setattr(np, "copyto", copy)
    session._pipeline._free.put(session._pipeline._free.get())  # the watched set comes next
    session.run(clips)
    assert sum(values.nbytes for values in sources) == 3 * clips.values[0].nbytes
    assert all(np.shares_memory(values, clips.values) for values in sources)


def test_many_threads_with_many_batches_get_their_own_answers(
    machine: Machine, exported: Path, clip: np.ndarray
) -> None:
    session, reference = machine.open(**set_sizes(machine, exported, (1, 1, 2))), open_session(exported / "server")
    batches = [encrypted(machine.server, np.roll(clip, 3 * i, axis=2), 5) for i in range(6)]
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


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_after_an_error_all_buffers_are_free_and_the_session_answers(
    machine: Machine, exported: Path, clip: np.ndarray, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = machine.open(**set_sizes(machine, exported, (1, 1, 1)))
    clips, calls, enqueue = encrypted(machine.server, clip, 3), list[int](), fake_gpu.Context.execute_async_v3

    def sometimes(context: fake_gpu.Context, stream: int) -> bool:
        calls.append(1)
        return len(calls) - 1 != fails_at and enqueue(context, stream)

    monkeypatch.setattr(fake_gpu.Context, "execute_async_v3", sometimes)
    with pytest.raises(SessionError, match="failed"):
        session.run(clips)
    assert session._pipeline._free.qsize() == 2
    np.testing.assert_allclose(session.run(clips), open_session(exported / "server").run(clips), atol=1e-6)


def test_too_little_memory_in_a_run_is_one_clear_error_and_the_session_goes_on(
    machine: Machine, exported: Path, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, clips = machine.open(), encrypted(machine.server, clip, 2)

    def full(event: object) -> None:
        raise fake_gpu.OutOfMemoryError("Out of memory allocating 9,999 bytes")

    monkeypatch.setattr(fake_gpu.Event, "synchronize", full)
    with pytest.raises(SessionError, match="too little memory to run the engine: Out of memory"):
        session.run(clips)
    monkeypatch.undo()
    assert session._pipeline._free.qsize() == 2


@pytest.fixture
def two_gpus(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(
        "lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda number=0: {0: GPU, 1: H200}.get(number)
    )
    return machine


def test_a_session_runs_on_the_gpu_of_its_number(two_gpus: Machine, exported: Path, clip: np.ndarray) -> None:
    session, clips = two_gpus.open(device=1), encrypted(two_gpus.server, clip, 2)
    assert session.device == f"TensorRT 11.4.0.106 on {H200}"
    np.testing.assert_allclose(session.run(clips), open_session(exported / "server").run(clips), atol=1e-6)
    assert session._context.device == 1
    there = EncryptedClip(values=fake_gpu.Array(clips.values, device=1), binding=clips.binding)
    np.testing.assert_array_equal(session.run(there), session.run(clips))
    with pytest.raises(ValueError, match="expected clips on GPU 1, on which the session runs, received clips on GPU 0"):
        session.run(EncryptedClip(values=fake_gpu.Array(clips.values, device=0), binding=clips.binding))


def test_a_gpu_that_is_not_there_is_refused_by_number(two_gpus: Machine) -> None:
    with pytest.raises(DeviceError, match="expected a GPU of number 2, but this machine has fewer"):
        two_gpus.open(device=2)


def test_a_library_that_cannot_start_is_one_clear_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bindings raise TypeError where the library returns nothing."""

    def nothing(runtime: object, logger: Any) -> None:
        logger.log(fake_gpu.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(machine.module.Runtime, "__init__", nothing)
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.driver_version", lambda: "12.4")
    says = r"cannot start here: CUDA initialization .*supports CUDA 12\.4 at most"
    with pytest.raises(DeviceError, match=says) as caught:
        machine.open()
    assert "update the NVIDIA driver" in caught.value.hint


def test_a_driver_older_than_the_cuda_libraries_is_one_clear_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def old(shape: object, dtype: object) -> None:
        raise fake_gpu.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    monkeypatch.setattr(sys.modules["cupy"], "empty", old)
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.driver_version", lambda: "12.4")
    with pytest.raises(DeviceError, match=r"older than the CUDA libraries: it supports CUDA 12\.4 at most"):
        machine.open()


def test_a_stripped_down_profile_fills_clips_on_the_device(machine: Machine, exported: Path, clip: np.ndarray) -> None:
    session: TensorRTSession = machine.open(**set_sizes(machine, exported, (3, 3, 3)))
    clips = encrypted(machine.server, clip, 2)
    there = EncryptedClip(values=fake_gpu.Array(clips.values), binding=clips.binding)
    np.testing.assert_allclose(session.run(there), open_session(exported / "server").run(clips), atol=1e-6)
    assert session._context.enqueued[-1][0] == 3
