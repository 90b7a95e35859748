"""Batches through a TensorRT context: while one is computed, the next one is copied to the GPU.

There are two sets of buffers, one stream for copies to the GPU and one for kernels. A batch holds a set from its copy
into pinned memory until its logits have been read, so a set is never written while something reads it. The context is
used under a lock, and its kernels are in one stream, so they never overlap.

Source: documentation of CuPy, ``Stream`` and ``Event``; of TensorRT, ``IExecutionContext::enqueueV3``.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import ModelSpec, Profile, TensorSpec
from lcve_deploy.runtime.bank import Tensors, bank_shape, keyed_name
from lcve_deploy.runtime.banked import clip_arrays

__all__ = ["DeviceRows", "Pipeline"]

Logits = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_SETS: Final = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Buffers:
    """Memory for the largest batch, allocated once: on the device, and pinned on the host. Clips are by input."""

    clips: Mapping[str, Any]
    rows: Any
    logits: Any
    host_clips: Mapping[str, npt.NDArray[Any]]
    host_rows: Rows
    host_logits: Logits


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """A batch that is under way.

    Args:
        buffers: its set, until it is collected.
        clips: number of clips that were asked for; more may be computed.
        values: input on the device, kept alive until it has been read.
        done: event after the copy of the logits.
    """

    buffers: _Buffers
    clips: int
    values: Any
    done: Any


class Pipeline:
    """Buffers and streams of a session. Threads may share it. The session's GPU must be the current one in all calls.

    Args:
        model: model of the artifact.
        profile: batch sizes of the engine.
        enqueue: starts the kernels of a batch; takes clips by input, rows of the bank and logits on the device, and a
            stream.
        fixed: use one set of buffers for every batch, at the same addresses, as a CUDA graph needs.
    """

    def __init__(
        self, model: ModelSpec, profile: Profile, enqueue: Callable[[Any, Any, Any, Any], None], *, fixed: bool = False
    ) -> None:
        import cupy

        self._array, self._current_stream = cupy.ndarray, cupy.cuda.get_current_stream
        self._contiguous, self._failure = cupy.ascontiguousarray, cupy.cuda.runtime.CUDARuntimeError
        self._model, self._profile, self._enqueue, self._fixed = model, profile, enqueue, fixed
        self._lock = threading.Lock()
        self._copies, self._kernels = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
        self._free: queue.SimpleQueue[_Buffers] = queue.SimpleQueue()
        for _ in range(1 if fixed else _SETS):
            self._free.put(_allocate(model, profile, self._copies))

    def run(self, values: Any, rows: Rows) -> Logits:
        """Return the logits of any number of clips: larger batches than the engine's are split, smaller ones filled.

        Args:
            values: clips.
            rows: for each clip, the row of the bank.
        """
        pending: deque[_Batch] = deque()
        answers: list[Logits] = []
        try:
            for first in range(0, values.shape[0], self._profile.maximum):
                buffers, part = self._take(pending, answers), slice(first, first + self._profile.maximum)
                pending.append(self._submit(buffers, values[part], rows[part]))
            while pending:
                answers.append(self._collect(pending))
        finally:
            while pending:  # an error: what is under way still uses its buffers
                self._release(pending.popleft().buffers)
        return np.concatenate(answers)

    def _take(self, pending: deque[_Batch], answers: list[Logits]) -> _Buffers:
        """Return free buffers. Wait for those of another thread only while holding none, which rules out a deadlock."""
        while True:
            try:
                return self._free.get(block=not pending)
            except queue.Empty:
                answers.append(self._collect(pending))

    def _submit(self, buffers: _Buffers, values: Any, rows: Rows) -> _Batch:
        with self._released_on_error(buffers):
            clips, keys = self._place(buffers, values), self._place_rows(buffers, rows)
            size = self._size(values)
            logits = buffers.logits[:size]
            with self._lock:
                self._enqueue(clips, keys, logits, self._kernels)
                logits.get(stream=self._kernels, out=buffers.host_logits[:size], blocking=False)
                done = self._kernels.record()
        return _Batch(buffers=buffers, clips=int(values.shape[0]), values=clips, done=done)

    def _place(self, buffers: _Buffers, values: Any) -> dict[str, Any]:
        """Return a batch on the device, of at least the smallest size, which the stream of the kernels waits for."""
        if isinstance(values, self._array):
            return {self._model.input.name: self._shared(buffers, values)}
        clips, size = int(values.shape[0]), self._size(values)
        placed = {}
        for name, array in clip_arrays(self._model, values).items():
            host = buffers.host_clips[name][:size]
            np.copyto(host[:clips], array)
            for filled in range(clips, size):
                np.copyto(host[filled : filled + 1], array[filled % clips])
            placed[name] = buffers.clips[name][:size]
            placed[name].set(host, stream=self._copies)
        self._kernels.wait_event(self._copies.record())
        return placed

    def _place_rows(self, buffers: _Buffers, rows: Rows) -> Any:
        """Return the rows on the device, for filled clips too, which the stream of the kernels waits for."""
        size = self._size(rows)
        host, there = buffers.host_rows[:size], buffers.rows[:size]
        np.copyto(host, np.resize(rows, size))
        there.set(host, stream=self._copies)
        self._kernels.wait_event(self._copies.record())
        return there

    def _shared(self, buffers: _Buffers, values: Any) -> Any:
        """Use a CuPy array in place, after pending work of the stream that fills it."""
        size, stream = self._size(values), self._current_stream()
        if size > values.shape[0]:
            values = values[np.resize(np.arange(values.shape[0]), size)]
        if self._fixed:
            fixed = buffers.clips[self._model.input.name][:size]
            fixed[...] = values
            values = fixed
        values = self._contiguous(values)
        self._kernels.wait_event(stream.record())
        return values

    def _size(self, values: Any) -> int:
        return max(int(values.shape[0]), self._profile.minimum)

    def _collect(self, pending: deque[_Batch]) -> Logits:
        """Wait for the oldest batch, and return its logits in memory of their own."""
        batch = pending.popleft()
        with self._released_on_error(batch.buffers):
            batch.done.synchronize()
            logits = batch.buffers.host_logits[: batch.clips].copy()
        self._free.put(batch.buffers)
        return logits

    @contextlib.contextmanager
    def _released_on_error(self, buffers: _Buffers) -> Iterator[None]:
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self._release(buffers)

    def _release(self, buffers: _Buffers) -> None:
        """Give buffers back after an error, once nothing uses them; a stream that has failed uses nothing any more."""
        for stream in (self._copies, self._kernels):
            with contextlib.suppress(self._failure):
                stream.synchronize()
        self._free.put(buffers)


class DeviceRows:
    """Rows of the bank in memory of the current GPU.

    Args:
        specs: the tensors of the model's bank.
        rows: number of rows.
    """

    def __init__(self, specs: Iterable[TensorSpec], rows: int) -> None:
        import cupy

        self._stream = cupy.cuda.Stream(non_blocking=True)
        with self._stream:  # as for buffers
            self.arrays = {spec.name: cupy.empty((rows, *bank_shape(spec)), dtype=spec.dtype) for spec in specs}

    def write(self, row: int, tensors: Tensors) -> None:
        """Copy one row to the GPU, and wait until it is there: runs that use it are enqueued afterwards.

        Runs that used what was there before have been waited for, because a row is held until its logits are read.
        """
        shapes = {name: (1, *array.shape[1:]) for name, array in self.arrays.items()}
        values = {name: np.ascontiguousarray(tensors[keyed_name(name)]).reshape(shapes[name]) for name in shapes}
        for name, array in self.arrays.items():
            array[row : row + 1].set(values[name], stream=self._stream)
        self._stream.synchronize()


def _allocate(model: ModelSpec, profile: Profile, stream: Any) -> _Buffers:
    import cupy
    import cupyx

    logits = (profile.maximum, *model.output.shape[1:])
    clips = {spec.name: ((profile.maximum, *spec.shape[1:]), np.dtype(spec.dtype)) for spec in model.clip_inputs}
    with stream:  # allocate on this stream, so that no other stream still uses the memory
        return _Buffers(
            clips={name: cupy.empty(shape, dtype=dtype) for name, (shape, dtype) in clips.items()},
            rows=cupy.empty(profile.maximum, dtype=np.int64),
            logits=cupy.empty(logits, dtype=np.float32),
            host_clips={name: cupyx.empty_pinned(shape, dtype=dtype) for name, (shape, dtype) in clips.items()},
            host_rows=cupyx.empty_pinned(profile.maximum, dtype=np.int64),
            host_logits=cupyx.empty_pinned(logits, dtype=np.float32),
        )
