"""What full-size models of today's families cost, with random weights:

    python -m benchmarks.families.numbers vit dinov2 siglip vjepa2-16 vjepa2-64-short vjepa2-64 --work models

Each model is exported with the command line, answers a built-in film or picture that is encrypted, takes turns with the
plain model, and is built into an engine of TensorRT-RTX, each in a process of its own. Figures are added to
``benchmarks/results/families.json``, from which ``python -m benchmarks.families.page`` writes
``docs/evidence/families.md``. A step that is done is not repeated, and a model's files are deleted at its end. Linux
only; V-JEPA 2 with 64 frames takes hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.common.files import RESULTS, ROOT
from benchmarks.common.measure import PAUSE, Turns, ratio, seconds
from benchmarks.common.plain import plain_cubes, write_plain_server
from benchmarks.common.processes import LCVE, figures_of, say
from benchmarks.families.models import MODELS, Model, save_folder
from benchmarks.parts.exports import peak_bytes
from lcve_deploy import Client, PlainClip, SecurityKey, SessionOptions, open_session
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.runtime.cpu import cpu_name
from lcve_deploy.samples import real_clips

__all__ = ["RESULT", "main"]

RESULT: Final = RESULTS / "families.json"
THREADS: Final = 2
_ENGINE: Final = ("--runtime", "tensorrt-rtx", "--precision", "fp32", "--compute-capability", "8.9", "--batch", "1:1:1")
_GPUS: Final = "compute capability 8.9, float32, one clip"


class Work:
    """The files of one model.

    Args:
        folder: folder of the model's files.
        model: the model.
    """

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder, self.model = folder, model
        self.checkpoint, self.service = folder / "checkpoint", folder / "service"
        self.key, self.plain = folder / "key.bin", folder / "plain"

    @property
    def server(self) -> Path:
        """The operator's folder."""
        return self.service / "server"

    def client(self) -> Client:
        """Return the key holder's side."""
        return Client.open(self.service / "client", SecurityKey.read(self.key))

    def clip(self) -> np.ndarray:
        """Return a clip of the built-in film, or its first frame, ``[1, T, H, W, C]``."""
        return real_clips(self.client().settings.binding.geometry)[:1]


def checkpoint(work: Work) -> dict[str, Any]:
    """Write the random model."""
    save_folder(work.model, work.checkpoint)
    files = work.checkpoint.glob("*.safetensors")
    return {"weights_bytes": sum(path.stat().st_size for path in files)}


def export(work: Work) -> dict[str, Any]:
    """Export with the command; it fails if parity or a control does."""
    SecurityKey.create().write(work.key)
    options = {"--frames": work.model.options.frames, "--size": work.model.options.size}
    given = [str(part) for name, value in options.items() if value for part in (name, value)]
    command = ["export", "--ckpt", work.checkpoint, "--key", work.key, "-o", work.service, *given]
    return {**_lcve(*command), "graph_bytes": sum(path.stat().st_size for path in work.server.glob("model.onnx*"))}


def answer(work: Work) -> dict[str, Any]:
    """Open the model and answer one clip in this process: seconds, and the peak of its memory."""
    encrypted = work.client().encrypt(PlainClip(values=work.clip()))
    before = peak_bytes()
    session = open_session(work.server, SessionOptions(threads=THREADS))
    took = seconds(lambda: session.run(encrypted))
    return {"seconds": took, "peak_bytes": peak_bytes(), "before_bytes": before}


def plain(work: Work) -> dict[str, Any]:
    """Write the same model without a key."""
    model = load_checkpoint(work.checkpoint, work.model.options).model
    write_plain_server(work.plain, model, work.server, work.client())
    return {}


def compare(work: Work) -> dict[str, Any]:
    """Compare times and answers of the encrypted with the plain model, which take turns in this process."""
    client, clip = work.client(), work.clip()
    encrypted, cubes = client.encrypt(PlainClip(values=clip)), plain_cubes(clip, work.plain)
    options = SessionOptions(threads=THREADS)
    ours, theirs = open_session(work.server, options), open_session(work.plain, options)
    gap = np.abs(client.plain_order(ours.run(encrypted)) - theirs.run(cubes)).max()
    used: dict[str, list[float]] = {"plain": [], "scrambled": []}
    works: Mapping[str, Callable[[], object]] = {
        "plain": lambda: _counted(used["plain"], lambda: theirs.run(cubes)),
        "scrambled": lambda: _counted(used["scrambled"], lambda: ours.run(encrypted)),
    }
    times = Turns(rounds=work.model.rounds).take(works, warm_up=0, pause=PAUSE)
    wall, processor = (ratio(seen["plain"], seen["scrambled"]) for seen in (times, used))
    return {"gap": float(gap), "wall": asdict(wall), "processor": asdict(processor)}


def _counted(used: list[float], work: Callable[[], object]) -> None:
    """Run and add the seconds of processor time that all threads used, which other processes change little."""
    before = time.process_time()
    work()
    used.append(time.process_time() - before)


def engine(work: Work) -> dict[str, Any]:
    """Build an engine of TensorRT-RTX, ahead of time where there is no GPU."""
    figures = _lcve("build", work.server, *_ENGINE)
    plans = list(work.server.glob("engines/*/engine.plan"))
    return {**figures, "plan_bytes": sum(path.stat().st_size for path in plans), "for": _GPUS}


STEPS: Final[Mapping[str, Callable[[Work], dict[str, Any]]]] = {
    "checkpoint": checkpoint,
    "export": export,
    "answer": answer,
    "plain": plain,
    "compare": compare,
    "engine": engine,
}


def _lcve(*command: object) -> dict[str, Any]:
    """Run a command line with its output on standard error; return its time and its peak of memory."""
    started = time.perf_counter()
    process = subprocess.Popen([*LCVE, *map(str, command)], stdout=sys.stderr, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"lcve {command[0]} ended with status {process.returncode}")
    return {"seconds": time.perf_counter() - started, "peak_bytes": usage.ru_maxrss * 1024}


def measure(name: str, folder: Path) -> None:
    """Take the steps of one model that are not done, and delete its files."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    done = place / "done.json"
    figures: dict[str, Any] = json.loads(done.read_text()) if done.exists() else {}
    for step in STEPS:
        if step not in figures:
            say(f"{name}: {step}")
            figures[step] = figures_of("families.numbers", name, "--step", step, "--work", folder)
            done.write_text(json.dumps(figures))
            record(name, figures)
    shutil.rmtree(place)


def record(name: str, figures: Mapping[str, Any]) -> None:
    """Add the figures of a model to the results."""
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results[name] = {**figures, "cpu": cpu_name(), "threads": THREADS, "date": date.today().isoformat()}
    RESULT.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--step", choices=STEPS, help="only this step, in this process")
    given = parser.parse_args()
    for name in given.models:
        if given.step:
            print(json.dumps(STEPS[given.step](Work(given.work.resolve() / name, MODELS[name]))))
        else:
            measure(name, given.work.resolve())


if __name__ == "__main__":
    main()
