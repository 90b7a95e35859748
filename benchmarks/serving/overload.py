"""Ten times the load that a full-size model can take, for a minute: what is answered, refused and kept in memory.

python -m benchmarks.serving.overload --work FOLDER    the model stays there; prints figures as JSON
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common.bench import THREADS, Bench
from benchmarks.serving.servers import Clients, lcve_serve

_TIMES = 10
_CLIENTS = 8
_OPTIONS = ("--threads", str(THREADS), "--max-batch", "4", "--max-queue", str(_CLIENTS), "--max-requests", "32")
"""The queue holds the clients of the calm load, none of which may be refused."""


def measure(bench: Bench, seconds: float) -> dict[str, Any]:
    shape = [1, *bench.encrypted.values.shape[1:]]
    with lcve_serve({"model": bench.server}, bench.work, *_OPTIONS) as server, Clients() as clients:
        closed = {"protocol": "grpc", "address": server.grpc, "model": "model", "shape": shape, "seconds": 60.0}
        calm = clients.run("closed", **closed, clients=_CLIENTS, count=2 * _CLIENTS)
        alone = clients.run("closed", **closed, clients=1, count=4)
        capacity, before = calm["answers"] / calm["seconds"], server.memory["most"]
        rate = _TIMES * capacity
        load = clients.run("open", address=server.grpc, model="model", shape=shape, rate=rate, seconds=seconds, seed=0)
        after = server.memory["most"]
        again = clients.run("closed", **closed, clients=1, count=4)
    return {
        "capacity": capacity,
        "offered": rate,
        "seconds": seconds,
        "sent": load["sent"],
        "answered": len(load["latencies"]),
        "refused": load["refused"],
        "failed": load["failed"],
        "longest_answer": max(load["latencies"]),
        "memory_most": {"before": before, "after": after},
        "median_latency": {name: _median(part) for name, part in (("before", alone), ("after", again))},
    }


def _median(figures: dict[str, Any]) -> float:
    ordered = sorted(figures["latencies"])
    return float(ordered[len(ordered) // 2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    print(json.dumps(measure(Bench(given.work.resolve()), given.seconds), indent=2))


if __name__ == "__main__":
    main()
