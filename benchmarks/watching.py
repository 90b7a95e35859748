"""Whether the memory of ``lcve watch`` stays flat:

    python -m benchmarks.watching --media-seconds 1800

plays a short clip of a real film in a loop, as fast as a server answers: ``lcve serve`` in a process of its own, with
the committed model of ``examples/moving_digits``. The resident memory of ``lcve watch`` is read while it runs, and
its spread after a warm-up must be within five percent. Figures go to ``benchmarks/results/watching.json``. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common.files import EXAMPLE, RESULTS
from benchmarks.common.processes import LCVE
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.runtime.cpu import cpu_name
from lcve_deploy.samples import real_clips
from lcve_deploy.video import write_video

CHECKPOINT = EXAMPLE / "moving_digits.pth"
MAX_SPREAD = 5.0
"""Percent."""
_FILM = ClipGeometry.parse("16x240x320x3/2x16x16")
_HOP = 16
_WARM_UP = 0.1
_SAMPLES = 2000
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 2**20


def resident(process: int) -> float:
    """Resident memory of a process, MiB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE / _MIB


def make_film(path: Path) -> Path:
    """Two clips of a real film, forwards and backwards: 64 frames, 24 a second."""
    first, second = real_clips(_FILM)
    write_video(path, np.concatenate([first, first[::-1], second, second[::-1]]), frames_per_second=24)
    return path


@contextmanager
def served(server: Path) -> Iterator[str]:
    """A server in a process of its own; its address up to the model's name."""
    command = [*LCVE, "serve", f"watched={server}", "--json", "--log-level", "error"]
    ports = ["--http-port", "-1", "--grpc-port", "0", "--metrics-port", "-1"]
    with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"grpc://127.0.0.1:{json.loads(process.stdout.readline())['grpc']}/watched"
        finally:
            process.terminate()


def watch(address: str, film: Path, key: Path, client: Path, *, media_seconds: float) -> dict[str, Any]:
    """Watch a film in a loop; resident memory at many positions of the stream, and the last counts."""
    command = [*LCVE, "watch", str(film), "--loop", "--seconds", str(media_seconds), "--json"]
    command += ["--server", address, "--key", str(key), "--client", str(client), "--top", "1", "--hop", str(_HOP)]
    samples: list[tuple[float, float]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = {}
        for text in process.stdout:
            line = json.loads(text)
            position = line.get("last", {}).get("position", 0.0)
            if position >= media_seconds / _SAMPLES * len(samples):
                samples.append((position, resident(process.pid)))
    if process.returncode:
        sys.exit(process.returncode)
    return {"media_seconds": media_seconds, "counts": line["summary"], **spread(samples, media_seconds)}


def spread(samples: Sequence[tuple[float, float]], media_seconds: float) -> dict[str, Any]:
    """How far the memory moves after the warm-up, and whether it grows."""
    settled = [memory for position, memory in samples if position >= _WARM_UP * media_seconds]
    half = len(settled) // 2
    middle = median(settled)
    return {
        "samples": len(settled),
        "smallest_mib": min(settled),
        "largest_mib": max(settled),
        "median_mib": middle,
        "spread_percent": 100 * (max(settled) - min(settled)) / middle,
        "growth_percent": 100 * (median(settled[half:]) / median(settled[:half]) - 1),
        "quarters_mib": [median(part) for part in np.array_split(settled, 4)],
    }


def _measure(work: Path, media_seconds: float) -> dict[str, Any]:
    key, service = work / "key.bin", work / "service"
    for arguments in (
        ("keygen", "-o", key),
        ("export", "--key", key, "--ckpt", CHECKPOINT, "-o", service, "--num-heads", 4, "--frames", 16, "--size", 64),
    ):
        subprocess.run([*LCVE, *map(str, arguments)], check=True, stdout=sys.stderr)
    film = make_film(work / "film.mp4")
    with served(service / "server") as address:
        return watch(address, film, key, service / "client", media_seconds=media_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media-seconds", type=float, default=1800)
    parser.add_argument("--output", type=Path, default=RESULTS / "watching.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = _measure(Path(work), given.media_seconds)
    figures = {"date": date.today().isoformat(), "cpu": cpu_name(), "largest_spread": MAX_SPREAD, **figures}
    text = json.dumps(figures, indent=2)
    given.output.write_text(text + "\n")
    print(text)
    if figures["spread_percent"] > MAX_SPREAD:
        sys.exit(f"the memory of lcve watch moves by {figures['spread_percent']:.1f} %")


if __name__ == "__main__":
    main()
