"""Attacks on the limits of ``lcve serve``: what a client without a token costs the server in memory, time and log.

python -m benchmarks.serving.attacks --work FOLDER [--only NAME]...    the model stays there; prints figures as JSON

Each attack is made on a server process of its own. The model is small and random; its clips are as large as those of
VideoMAE-B, since memory depends on them alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmarks.common.bench import Bench
from benchmarks.common.models import Size
from benchmarks.common.processes import say
from tests.support.http2 import HalfMessage
from tests.support.servers import NAME, Server, request, serving
from tests.support.tls import make_authority

_MEBIBYTE: Final = 2**20
_CLIPS: Final = Size(name="wide clips", width=48, depth=1, heads=3, hidden=48, classes=10)
_TOKEN: Final = "0123456789abcdef-of-a-client"


def half_messages(server_folder: Path) -> dict[str, Any]:
    """Twenty gRPC streams, each with 40 MiB of a message that never ends, at a server with two places."""
    with serving(server_folder, "--max-requests", 2) as server, contextlib.ExitStack() as stack:
        before = server.rss
        halves = [stack.enter_context(HalfMessage(server.host, server.grpc, size=60 * _MEBIBYTE)) for _ in range(20)]
        with ThreadPoolExecutor(20) as threads:
            sent = [*threads.map(lambda half: half.send(40 * _MEBIBYTE, seconds=20), halves)]
        return {"mib_sent": sum(sent) // _MEBIBYTE, "mib_grown": (server.rss - before) // _MEBIBYTE}


def half_valid_messages(server_folder: Path) -> dict[str, Any]:
    """The same with 17 MiB of messages of 18 MiB, which are not larger than a valid request."""
    with serving(server_folder, "--max-requests", 2) as server, contextlib.ExitStack() as stack:
        before = server.rss
        halves = [stack.enter_context(HalfMessage(server.host, server.grpc, size=18 * _MEBIBYTE)) for _ in range(20)]
        with ThreadPoolExecutor(20) as threads:
            sent = [*threads.map(lambda half: half.send(17 * _MEBIBYTE, seconds=15), halves)]
        return {"mib_sent": sum(sent) // _MEBIBYTE, "mib_grown": (server.rss - before) // _MEBIBYTE}


def waiting_json(server_folder: Path) -> dict[str, Any]:
    """Four requests of 14 MiB of nested JSON that wait for their run."""
    with serving(server_folder, "--queue-delay", 90_000) as server, ThreadPoolExecutor(4) as threads:
        shape = _shape(server)
        values = 1
        for size in shape:
            values *= size
        data = "[" + ",".join(["[[7]]"] * values) + "]"
        head = f'{{"inputs": [{{"name": "clips", "datatype": "UINT8", "shape": {shape}, "data": '
        body = f"{head}{data}}}]}}".encode()
        before, peak = server.rss, server.peak
        work = [
            threads.submit(request, server.host, server.http, "POST", f"/v2/models/{NAME}/infer", body, seconds=300.0)
            for _ in range(4)
        ]
        waiting, end = 0.0, time.monotonic() + 85
        while waiting < 4 and time.monotonic() < end and not any(task.done() for task in work):
            waiting = server.value("lcve_queue_clips")
            time.sleep(0.05)
        held, most = server.rss - before, server.peak - peak
        answers = sorted({task.result()[0] for task in work})
    return {
        "mib_of_body": len(body) // _MEBIBYTE,
        "waiting": int(waiting),
        "mib_held": held // _MEBIBYTE,
        "mib_most": most // _MEBIBYTE,
        "status": answers,
    }


def silent_connections(server_folder: Path, work: Path) -> dict[str, Any]:
    """300 connections that say nothing, at a server with TLS, 64 connections and 256 file descriptors."""
    authority = make_authority(work)
    tls = ("--tls-cert", authority.server.cert, "--tls-key", authority.server.key)
    limits = ("--max-connections", 64, "--read-timeout", 5)
    with (
        serving(server_folder, *tls, *limits, prefix=("prlimit", "--nofile=256:256")) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(300):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection((server.host, server.http), 5))
        answers = {
            "https": _answered(lambda: _https(server, authority.ca), 15),
            "grpc": _answered(lambda: _handshake(server.host, server.grpc, authority.ca), 15),
            "metrics": _answered(lambda: server.get("/v2/health/live", port=server.metrics), 15),
        }
        return {"answered": answers, "mib_of_log": round(_log_bytes(server) / _MEBIBYTE, 3)}


def dripping_head(server_folder: Path) -> dict[str, Any]:
    """A second head on a connection that is kept alive, one byte every 0.2 seconds; --read-timeout is 2 seconds."""
    with serving(server_folder, "--read-timeout", 2) as server:
        connection = socket.create_connection((server.host, server.http), 100)
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(4096)
        started = time.monotonic()
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nX: ")
            connection.settimeout(0.2)
            while time.monotonic() - started < 120:
                connection.sendall(b"x")
                try:
                    if not connection.recv(4096):
                        break
                except TimeoutError:
                    continue
        return {"seconds_open": round(time.monotonic() - started, 1)}


def shutdown(server_folder: Path) -> dict[str, Any]:
    """An idle stream, a body that stops, and a run of 20 seconds, at a server with a grace of 2 seconds."""
    before = "import time\nfrom lcve_deploy.serving.models.served import ServedModel\nrun = ServedModel._run\n"
    before += "ServedModel._run = lambda self, values: time.sleep(20) or run(self, values)\n"
    with (
        serving(server_folder, "--grace", 2, "--read-timeout", 60, before=before) as server,
        HalfMessage(server.host, server.grpc, size=1000) as half,
        socket.create_connection((server.host, server.http)) as connection,
    ):
        half.send(10, seconds=1)
        connection.sendall(
            f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n".encode()
        )
        body = _binary(_shape(server))
        asking = threading.Thread(target=_ask_until_closed, args=(server, body), daemon=True)
        asking.start()
        while server.value("lcve_pending_requests") < 2:
            time.sleep(0.05)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        status = server.wait(120)
        return {"grace": 2, "seconds_to_end": round(time.monotonic() - started, 1), "status": status}


def tokens_in_log(server_folder: Path) -> dict[str, Any]:
    """Malformed heads that carry a token, and what the log has of them."""
    heads = (
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {_TOKEN}\x01\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {_TOKEN}\r\n\r\n",
        f"GET /{_TOKEN} HTTP/9\r\nAuthorization: Bearer {_TOKEN}\r\n\r\n",
    )
    with serving(server_folder, fresh=True) as server:
        for head in heads:
            with socket.create_connection((server.host, server.http), 10) as connection:
                connection.sendall(head.encode())
                while connection.recv(4096):
                    pass
        server.end()
        text = server.log_file.read_text() if server.log_file else ""
        lines = text.splitlines()
        return {
            "lines": len(lines),
            "lines_with_token": sum(_TOKEN in line for line in lines),
            "lines_not_json": sum(not line.startswith("{") for line in lines),
            "tracebacks": text.count("Traceback"),
        }


def _shape(server: Server) -> list[int]:
    (tensor,) = json.loads(server.get(f"/v2/models/{NAME}")[1])["inputs"]
    return [1, *tensor["shape"][1:]]


def _binary(shape: list[int]) -> tuple[bytes, dict[str, str]]:
    values = 1
    for size in shape:
        values *= size
    tensor = {"name": "clips", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": values}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + bytes(values), {"Inference-Header-Content-Length": str(len(head))}


def _ask_until_closed(server: Server, body: tuple[bytes, dict[str, str]]) -> None:
    with contextlib.suppress(OSError):
        request(server.host, server.http, "POST", f"/v2/models/{NAME}/infer", *body, seconds=120.0)


def _answered(ask: Callable[[], object], seconds: float) -> float | None:
    """Seconds until an answer, with new attempts; None if there is none in time."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        with contextlib.suppress(OSError):
            ask()
            return round(time.monotonic() - started, 2)
        time.sleep(0.1)
    return None


def _https(server: Server, authority: Path) -> bytes:
    with _handshake(server.host, server.http, authority) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer: bytes = connection.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise OSError("no answer")
        return answer


def _handshake(host: str, port: int | None, authority: Path) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority))
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.check_hostname = False
    return context.wrap_socket(socket.create_connection((host, port), 2))


def _log_bytes(server: Server) -> int:
    return server.log_file.stat().st_size if server.log_file else 0


_ATTACKS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    function.__name__: function
    for function in (
        half_messages,
        half_valid_messages,
        waiting_json,
        silent_connections,
        dripping_head,
        shutdown,
        tokens_in_log,
    )
}


def measure(bench: Bench, names: list[str]) -> dict[str, Any]:
    figures = {}
    for name in names:
        say(f"  {name}")
        more = (bench.work,) if name == "silent_connections" else ()
        figures[name] = _ATTACKS[name](bench.server, *more)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=[*_ATTACKS])
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.work.resolve(), size=_CLIPS)
    print(json.dumps(measure(bench, given.only or [*_ATTACKS]), indent=2))


if __name__ == "__main__":
    main()
