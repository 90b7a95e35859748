"""``lcve serve`` against the bare session and against a real Triton, and its latency under load.

Servers and their clients are processes of one machine, and take turns. The Triton is that of the tests (``make
triton``), with ``benchmarks/serving/backend.py``, a Python backend that runs the same graph in the same ONNX Runtime;
it is left out if it is missing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.measure import Turns
from benchmarks.common.models import BASE, TINY, Size
from benchmarks.common.processes import say
from benchmarks.common.summary import medians
from benchmarks.common.tables import number, paragraph, table
from benchmarks.records import Measured
from benchmarks.serving.servers import Clients, Endpoint, echo, lcve_serve, sequence, triton, triton_is_there
from lcve_deploy import EncryptedClip, SessionOptions, open_session

TITLE = "Serving"
CASES = (Case(name="all", rounds=1, rehearsed=False),)
CHART = "serving.svg"

_LIGHT = replace(TINY, name="light", frames=16, pixels=224, cube=(2, 32, 32))
_HEAVY_BATCH = 4
_MAX_BATCH = 8
_SLICE = 1.5
_LOADS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5)
_OPEN_SECONDS = 6.0
_CELLS = (
    *(("light", "grpc", clients) for clients in (1, 4, 16)),
    *(("light", "http", clients) for clients in (1, 4, 16)),
    *(("tiny", "grpc", clients) for clients in (1, 16)),
    *(("tiny", "http", clients) for clients in (1, 16)),
)
_BARE = ("tiny", "grpc")
"""Model and protocol that are also compared with a server that only answers."""


def measure(bench: Bench, _: str, turns: Turns) -> dict[str, Any]:
    rounds = turns.rounds
    return {"rounds": rounds, "heavy": _heavy(bench, rounds), "light": _light(bench, rounds)}


def _sized(bench: Bench, size: Size) -> Bench:
    work = bench.work / f"serving-{size.name}"
    work.mkdir(exist_ok=True)
    return Bench(work, size=size)


def _heavy(bench: Bench, rounds: int) -> dict[str, Any]:
    """Clips a second of a full-size model: the session alone, and behind the server, in batches of the same size."""
    session = open_session(bench.server, SessionOptions(threads=THREADS))
    batch = EncryptedClip(
        values=np.repeat(bench.encrypted.values, _HEAVY_BATCH, axis=0), binding=bench.encrypted.binding
    )
    shape = [1, *bench.encrypted.values.shape[1:]]
    options = ("--threads", str(THREADS), "--max-batch", str(_HEAVY_BATCH))
    rates: dict[str, list[float]] = {"bare": [], "grpc": [], "http": []}
    batches = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(lcve_serve({"model": bench.server}, bench.work, *options))
        clients = stack.enter_context(Clients())
        session.run(batch)
        for turn in range(rounds):
            for name in sequence(list(rates), turn):
                if name == "bare":
                    rates[name].append(_bare_rate(session, batch))
                    continue
                before = server.statistics("model")
                figures = clients.run(
                    "closed",
                    protocol=name,
                    address=getattr(server, name),
                    model="model",
                    shape=shape,
                    clients=2 * _HEAVY_BATCH,
                    seconds=60.0,
                    count=4 * _HEAVY_BATCH,
                )
                after = server.statistics("model")
                rates[name].append(figures["answers"] / figures["seconds"])
                batches.append((after["clips"] - before["clips"]) / (after["runs"] - before["runs"]))
        memory = server.memory
    ratios = {name: [s / b for s, b in zip(rates[name], rates["bare"], strict=True)] for name in ("grpc", "http")}
    return {
        "model": BASE.name,
        "batch": _HEAVY_BATCH,
        "clips_a_second": {name: median(values) for name, values in rates.items()},
        "ratio": {name: _spread(values) for name, values in ratios.items()},
        "formed_batch": median(batches),
        "memory": memory,
    }


def _bare_rate(session: Any, batch: EncryptedClip) -> float:
    started, runs = time.perf_counter(), 3
    for _ in range(runs):
        session.run(batch)
    return runs * len(batch.values) / (time.perf_counter() - started)


def _light(bench: Bench, rounds: int) -> dict[str, Any]:
    """Requests a second of models that take next to no time, and latency under load."""
    sizes = {"light": _sized(bench, _LIGHT), "tiny": _sized(bench, TINY)}
    models = {name: sized.server for name, sized in sizes.items()}
    shapes = {name: [1, *sized.encrypted.values.shape[1:]] for name, sized in sizes.items()}
    with contextlib.ExitStack() as stack:
        options = ("--threads", "1", "--max-batch", str(_MAX_BATCH))
        servers = {"lcve serve": stack.enter_context(lcve_serve(models, bench.work, *options))}
        at_rest = {"lcve serve": servers["lcve serve"].memory["now"]}
        if triton_is_there():
            servers["Triton"] = stack.enter_context(triton(models, bench.work, largest=_MAX_BATCH))
            at_rest["Triton"] = servers["Triton"].memory["now"]
        clients = stack.enter_context(Clients())
        with echo() as bare:
            cells = _closed(servers, bare, clients, shapes, rounds)
        capacity = max(
            cell["rate"]["lcve serve"] for cell in cells if (cell["model"], cell["protocol"]) == ("light", "grpc")
        )
        say("  open loop")
        curve = [_offered(servers, clients, shapes["light"], share, capacity) for share in _LOADS]
        memory = {name: {"rest": at_rest[name], "most": server.memory["most"]} for name, server in servers.items()}
    return {"cells": cells, "capacity": capacity, "curve": curve, "memory": memory, "shapes": shapes}


def _closed(
    servers: dict[str, Endpoint], bare: Endpoint, clients: Clients, shapes: dict[str, list[int]], rounds: int
) -> list[dict[str, Any]]:
    rows: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for turn in range(rounds + 1):  # the first warms up
        for cell in _CELLS:
            asked = {"protocol": cell[1], "shape": shapes[cell[0]], "clients": cell[2], "seconds": _SLICE}
            found = {name: _row(servers[name], cell[0], clients, asked) for name in sequence(list(servers), turn)}
            if cell[:2] == _BARE:
                found["bare"] = _rate(bare, cell[0], clients, asked)
            if turn:
                for name, row in found.items():
                    rows.setdefault((*cell, name), []).append(row)
    return [_cell(cell, rows, list(servers)) for cell in _CELLS]


def _row(server: Endpoint, model: str, clients: Clients, asked: dict[str, Any]) -> dict[str, float]:
    """Figures of one server, some of them counted by itself."""
    before = server.statistics(model)
    row = _rate(server, server.names[model], clients, asked)
    after = server.statistics(model)
    requests = after["requests"] - before["requests"]
    times = {"run": "compute_infer", "queue": "queue"}
    return {**row, **{name: (after[field] - before[field]) / requests for name, field in times.items()}}


def _rate(server: Endpoint, model: str, clients: Clients, asked: dict[str, Any]) -> dict[str, float]:
    """Requests a second of a closed loop, their latency, and processor time of the server for each."""
    spent = server.cpu_seconds
    figures = clients.run("closed", address=getattr(server, asked["protocol"]), model=model, **asked)
    spent = server.cpu_seconds - spent
    return {
        "rate": figures["answers"] / figures["seconds"],
        "server_cpu": spent / (figures["answers"] + asked["clients"]),  # each sends one request before the time starts
        "latency": median(figures["latencies"]),
    }


def _cell(
    cell: tuple[Any, ...], rows: dict[tuple[Any, ...], list[dict[str, float]]], names: list[str]
) -> dict[str, Any]:
    result: dict[str, Any] = dict(zip(("model", "protocol", "clients"), cell, strict=True))
    for figure in ("rate", "server_cpu", "run", "queue", "latency"):
        result[figure] = {name: median(row[figure] for row in rows[(*cell, name)]) for name in names}
    if bare := rows.get((*cell, "bare")):
        result["bare"] = {figure: median(row[figure] for row in bare) for figure in ("rate", "server_cpu")}
    if len(names) == 2:
        ours, theirs = (rows[(*cell, name)] for name in names)
        result["ratio"] = _spread([a["rate"] / b["rate"] for a, b in zip(ours, theirs, strict=True)])
    return result


def _offered(
    servers: dict[str, Endpoint], clients: Clients, shape: list[int], share: float, capacity: float
) -> dict[str, Any]:
    """Latency at a rate of requests that does not depend on the answers."""
    result: dict[str, Any] = {"share": share, "rate": share * capacity}
    for name, server in servers.items():
        figures = clients.run(
            "open",
            address=server.grpc,
            model=server.names["light"],
            shape=shape,
            rate=share * capacity,
            seconds=_OPEN_SECONDS,
            seed=round(100 * share),
        )
        took = np.array(figures["latencies"] or [float("nan")])
        result[name] = {
            "answered": len(figures["latencies"]) / figures["sent"],
            "refused": figures["refused"] / figures["sent"],
            "failed": figures["failed"] / figures["sent"],
            "p50": float(np.quantile(took, 0.5)),
            "p95": float(np.quantile(took, 0.95)),
            "p99": float(np.quantile(took, 0.99)),
        }
    return result


def _spread(values: list[float]) -> dict[str, float]:
    return {"ratio": median(values), "low": min(values), "high": max(values)}


def section(here: Measured, _: Sequence[Measured]) -> str:
    figures = medians(here.cases["all"]["found"])
    heavy, light, processes = figures["heavy"], figures["light"], len(here.cases["all"]["found"])
    return "\n\n".join(
        (
            f"![Latency against offered load]({CHART})",
            paragraph(
                f"**A heavy model.** {heavy['model']}, float32, {THREADS} threads, {2 * heavy['batch']} clients,",
                f"batches of at most {heavy['batch']} (formed: {heavy['formed_batch']:.1f}): clips a second behind",
                f"`lcve serve`, compared with the bare session in batches of {heavy['batch']}. Each of {processes}",
                f"processes starts its own servers, which take turns; rounds of a process: {figures['rounds']}.",
                "Figures are medians of the processes, and lowest and highest are those of all rounds.",
            ),
            table(("protocol", "ratio to the bare session", "lowest to highest"), _heavy_rows(heavy)),
            paragraph(
                "**A light model.** Two blocks of width 48, one thread, so that the protocol is much of the work:",
                "with clips of 2.4 MB (light) and of 25 kB (tiny). tritonclient runs closed loops in one process.",
                "Requests a second of `lcve serve` are compared with those of Triton 2.51, with a Python backend",
                "that runs the same graph in the same ONNX Runtime in a separate process; its C++ backend, which",
                "was not available, may be faster. Milliseconds per request: processor time of the server, and",
                "within the server the wait in the queue and the run.",
            ),
            table(
                (
                    "model",
                    "protocol",
                    "clients",
                    "requests/s",
                    "over Triton",
                    "lowest to highest",
                    "server CPU",
                    "queue",
                    "run",
                ),
                [_light_row(cell) for cell in light["cells"]],
            ),
            _where(light),
            _load_text(light),
            table(
                ("offered, of capacity", "p50 ms", "p95 ms", "p99 ms", "refused", "Triton p50", "p95", "p99"),
                [_curve_row(row) for row in light["curve"]],
            ),
            _memory_text(light["memory"], heavy["memory"]),
        )
    )


def _heavy_rows(heavy: dict[str, Any]) -> list[tuple[str, ...]]:
    names = {"grpc": "gRPC", "http": "HTTP"}
    return [
        (names[name], f"{row['ratio']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}")
        for name, row in heavy["ratio"].items()
    ]


def _light_row(cell: dict[str, Any]) -> tuple[str, ...]:
    ratio = cell.get("ratio")
    over = (f"{ratio['ratio']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}") if ratio else ("", "")
    times = (number(1e3 * cell[name]["lcve serve"], 2) for name in ("server_cpu", "queue", "run"))
    names = {"grpc": "gRPC", "http": "HTTP"}
    return (
        cell["model"],
        names[cell["protocol"]],
        str(cell["clients"]),
        f"{cell['rate']['lcve serve']:.0f}",
        *over,
        *times,
    )


def _where(light: dict[str, Any]) -> str:
    """What a request costs each server, where both were measured."""
    if not all("ratio" in cell for cell in light["cells"]):
        return "Triton was not installed, so there is no comparison."
    parts = []
    for model in ("light", "tiny"):
        cell = next(c for c in light["cells"] if (c["model"], c["protocol"], c["clients"]) == (model, "grpc", 16))
        ours, theirs = (1e3 * cell["server_cpu"][name] for name in ("lcve serve", "Triton"))
        parts.append(f"{ours:.2f} ms of processor time against {theirs:.2f} ms ({model}, gRPC, 16 clients)")
    bare = next(c["bare"] for c in light["cells"] if (c["model"], c["protocol"], c["clients"]) == (*_BARE, 16))
    alone = next(c for c in light["cells"] if (c["model"], c["protocol"], c["clients"]) == ("light", "grpc", 1))
    return paragraph(
        f"Cost of a request: `lcve serve` takes {' and '.join(parts)}. At 25 kB the difference is Python: a server of",
        f"grpc.aio that reads a request and returns a constant takes {1e3 * bare['server_cpu']:.2f} ms, and the rest",
        "is admission, checks, queue, run and log, where Triton is C++ up to its backend. At 2.4 MB",
        f"the run itself is {1e3 * alone['run']['lcve serve']:.1f} of {1e3 * alone['server_cpu']['lcve serve']:.1f}",
        "ms with one client.",
    )


def _load_text(light: dict[str, Any]) -> str:
    return paragraph(
        "**Latency against offered load** (light model, gRPC, arrivals of a Poisson process, latency from the time",
        f"a request was due to be sent, {_OPEN_SECONDS:.0f} s for each point). Capacity is the",
        f"{light['capacity']:.0f} requests a second of the fastest closed loops. `lcve serve` refuses requests that",
        "do not fit into its bounded queue; this Triton's queue has no bound.",
    )


def _curve_row(row: dict[str, Any]) -> tuple[str, ...]:
    def times(name: str) -> tuple[str, ...]:
        return tuple(f"{1e3 * row[name][q]:.0f}" for q in ("p50", "p95", "p99")) if name in row else ("", "", "")

    return (f"{row['share']:.0%}", *times("lcve serve"), f"{row['lcve serve']['refused']:.0%}", *times("Triton"))


def _memory_text(light: dict[str, Any], heavy: dict[str, int]) -> str:
    sizes = "; ".join(
        f"{name} {m['rest'] / 1e6:.0f} MB at rest, {m['most'] / 1e6:.0f} MB at most" for name, m in light.items()
    )
    return paragraph(
        f"**Memory** (resident). Light models: {sizes}.",
        f"{BASE.name} behind `lcve serve`: {heavy['most'] / 1e6:.0f} MB at most.",
    )


def write_chart(here: Measured, path: Path) -> None:
    """Quantiles of latency against offered load."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    curve = medians(here.cases["all"]["found"])["light"]["curve"]
    shares = [100 * row["share"] for row in curve]
    settings: dict[Any, Any] = {
        "svg.hashsalt": "lcve",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(settings):
        figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", width_ratios=(3, 2))
        for name, colour in (("lcve serve", "#0072B2"), ("Triton", "#E69F00")):
            if name not in curve[0]:
                continue
            for quantile, style in (("p50", "-"), ("p95", "--"), ("p99", ":")):
                values = [1e3 * row[name][quantile] for row in curve]
                panels[0].plot(
                    shares, values, style, color=colour, label=f"{name}, {quantile}", marker="o", markersize=3
                )
            refused = [100 * row[name]["refused"] for row in curve]
            panels[1].plot(shares, refused, color=colour, label=name, marker="o", markersize=3)
        panels[0].set_yscale("log")
        panels[0].set_ylabel("latency (ms)")
        panels[1].set_ylabel("refused (%)")
        for panel in panels:
            panel.set_xlabel("offered load (% of capacity)")
            panel.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
