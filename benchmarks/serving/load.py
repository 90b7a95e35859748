"""Clients of a server under load, in a process of their own: a task a line of standard input, figures a line of output.

A closed loop has clients that each send the next request once the last is answered. An open loop sends at times that
do not depend on the answers, and counts latency from the time that was meant: a server that falls behind cannot
hide it (coordinated omission).

If a request of a warm-up or of a closed loop fails, the line of output is ``{"error": REASON}`` instead of figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

_UNAVAILABLE = ("StatusCode.UNAVAILABLE", "StatusCode.RESOURCE_EXHAUSTED", "503", "429")
_PATIENCE = 20.0


def main() -> None:
    loops: dict[str, Callable[..., dict[str, Any]]] = {"closed": closed, "open": open_loop}
    for line in sys.stdin:
        task = json.loads(line)
        loop = loops[task.pop("loop")]
        spent = time.process_time()
        try:
            figures = {**loop(**task), "client_cpu": time.process_time() - spent}
        except ClientsFailedError as error:
            figures = {"error": str(error)}
        print(json.dumps(figures), flush=True)


class ClientsFailedError(RuntimeError):
    """A request failed that must succeed for the figures to be valid."""


def closed(
    *, protocol: str, address: str, model: str, shape: list[int], clients: int, seconds: float, count: int = 0
) -> dict[str, Any]:
    """Answers of a closed loop after a ramp of one request a client: their times, and the latencies.

    Args:
        protocol: ``grpc`` or ``http``, as tritonclient speaks them.
        address: host and port.
        model: name.
        shape: of a request's clips.
        clients: threads, each with a connection of its own.
        seconds: to go on.
        count: answers of all clients to stop at, if it is not zero.

    Raises:
        ClientsFailedError: a request was refused or failed.
    """
    answers: list[tuple[float, float]] = []
    ready, end = threading.Barrier(clients + 1), [0.0]

    def work() -> None:
        try:
            with _sync_sender(protocol, address, model, shape) as send:
                send()
                ready.wait()
                loop(send)
        except BaseException:
            ready.abort()  # the other clients must not wait for this one
            raise

    def loop(send: Callable[[], Any]) -> None:
        now = time.perf_counter()
        while now < end[0] and not ready.broken and not (count and len(answers) >= count):
            send()
            then, now = now, time.perf_counter()
            answers.append((now, now - then))

    with ThreadPoolExecutor(clients) as threads:
        work_done = [threads.submit(work) for _ in range(clients)]
        end[0] = time.perf_counter() + seconds + _PATIENCE
        with contextlib.suppress(threading.BrokenBarrierError):
            ready.wait()
        started = time.perf_counter()
        end[0] = started + seconds
    _require_success(work_done)
    last = max(when for when, _ in answers)
    return {"answers": len(answers), "seconds": last - started, "latencies": [round(took, 6) for _, took in answers]}


def _require_success(clients: Sequence[Future[None]]) -> None:
    errors = [error for client in clients if (error := client.exception())]
    causes = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    if causes:
        raise ClientsFailedError(
            f"{len(causes)} of {len(clients)} clients of a closed loop had a request refused or failed, "
            f"so there are no figures: {causes[0]}"
        ) from causes[0]


def open_loop(
    *, address: str, model: str, shape: list[int], rate: float, seconds: float, seed: int, connections: int = 4
) -> dict[str, Any]:
    """Latencies over gRPC at arrivals of a Poisson process, from the time at which a request was meant to be sent.

    Raises:
        ClientsFailedError: a warm-up request was refused or failed.
    """
    return asyncio.run(_open_loop(address, model, shape, rate, seconds, random.Random(seed), connections))


async def _open_loop(
    address: str, model: str, shape: list[int], rate: float, seconds: float, draw: random.Random, connections: int
) -> dict[str, Any]:
    import grpc

    latencies: list[float] = []
    refused = failed = 0
    message = _message(model, shape).SerializeToString()
    separate = [("grpc.use_local_subchannel_pool", 1), *_UNLIMITED]
    channels = [grpc.aio.insecure_channel(address, options=separate) for _ in range(connections)]
    calls = [channel.unary_unary("/inference.GRPCInferenceService/ModelInfer") for channel in channels]
    for call in calls:
        try:
            await call(message)
        except grpc.aio.AioRpcError as error:
            raise ClientsFailedError(
                f"a warm-up request of an open loop was refused or failed: {error.details()}"
            ) from None

    async def send(call: Any, meant: float) -> None:
        nonlocal refused, failed
        try:
            await call(message, timeout=_PATIENCE)
        except grpc.aio.AioRpcError as error:
            if str(error.code()) in _UNAVAILABLE:
                refused += 1
            else:
                failed += 1
        else:
            latencies.append(time.perf_counter() - meant)

    tasks: list[asyncio.Task[None]] = []
    started, late = time.perf_counter(), 0.0
    meant = started
    while (meant := meant + draw.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, meant - time.perf_counter()))
        late = max(late, time.perf_counter() - meant)
        tasks.append(asyncio.create_task(send(calls[len(tasks) % connections], meant)))
    await asyncio.gather(*tasks)
    took = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    return {
        "sent": len(tasks),
        "refused": refused,
        "failed": failed,
        "seconds": took,
        "latest_send": late,
        "latencies": [round(latency, 6) for latency in latencies],
    }


_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def _message(model: str, shape: list[int]) -> Any:
    """A request as tritonclient writes it."""
    from tritonclient.grpc import service_pb2 as pb

    message = pb.ModelInferRequest(model_name=model)
    message.inputs.add(name="clips", datatype="UINT8", shape=shape)
    message.raw_input_contents.append(_clips(shape).tobytes())
    return message


def _clips(shape: list[int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


class _sync_sender:  # noqa: N801 (used as a function)
    """One connection of tritonclient; what it gives sends one request and reads its logits."""

    def __init__(self, protocol: str, address: str, model: str, shape: list[int]) -> None:
        self._protocol, self._address, self._model, self._shape = protocol, address, model, shape

    def __enter__(self) -> Callable[[], Any]:
        if self._protocol == "grpc":
            import tritonclient.grpc as triton

            separate = [("grpc.use_local_subchannel_pool", 1), *_UNLIMITED]
            self._client: Any = triton.InferenceServerClient(self._address, channel_args=separate)
        else:
            import tritonclient.http as triton

            self._client = triton.InferenceServerClient(self._address, concurrency=1, network_timeout=_PATIENCE * 3)
        clips = triton.InferInput("clips", self._shape, "UINT8")
        clips.set_data_from_numpy(_clips(self._shape))
        return lambda: self._client.infer(self._model, [clips]).as_numpy("logits")

    def __exit__(self, *_: object) -> None:
        self._client.close()


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    main()
