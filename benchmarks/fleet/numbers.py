"""What many keys cost, on a VideoMAE-B with random weights:

    python -m benchmarks.fleet.numbers enroll --work models
    python -m benchmarks.fleet.numbers memory --work models
    python -m benchmarks.fleet.numbers first --work models
    python -m benchmarks.fleet.numbers batches --work models      # some rounds in a new process; repeat it

Each adds its figures to ``benchmarks/results/fleet.json``, from which ``python -m benchmarks.fleet.page`` writes
``docs/evidence/fleet.md``. Run them on an idle machine. Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.files import RESULTS
from benchmarks.common.measure import Turns, interleaved
from benchmarks.common.processes import LCVE, figures_of
from benchmarks.watching import resident
from lcve_deploy import EncryptedClip, SessionOptions, open_session
from lcve_deploy.artifact import find_keys, open_key, read_manifest
from lcve_deploy.runtime.cpu import cpu_name
from lcve_deploy.runtime.session import Session
from lcve_deploy.verbs.embed import embed

__all__ = ["RESULT", "main"]

RESULT: Final = RESULTS / "fleet.json"
KEYS: Final = 1000
HOT: Final = (1, 9, 17)
"""Numbers of keys in use at which memory is read."""
_BATCH: Final = 4
_ROUNDS: Final = 4
_PAIRS: Final = 10


def fleet(bench: Bench) -> Path:
    """Return a model folder with a thousand keys; they are enrolled if they are not there."""
    server = bench.server
    if len(find_keys(server)) <= KEYS:
        enroll(bench)
    return server


def enroll(bench: Bench) -> dict[str, Any]:
    """Enroll a thousand names with the command, and move the key folders to the model."""
    output, names = bench.work / "enrolled", bench.work / "names.txt"
    names.write_text("\n".join(f"camera-{number:04}" for number in range(KEYS)) + "\n")
    started = time.perf_counter()
    owner = ["enroll", bench.artifact, "--key", bench.key_file, "--names", names, "-o", output]
    subprocess.run([*LCVE, *map(str, owner)], check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - started
    size = sum(file.stat().st_size for file in (output / "camera-0000/server").iterdir())
    for folder in output.iterdir():
        (folder / "server").rename(bench.server / "keys" / folder.name)
    return {"keys": KEYS, "seconds": took, "seconds_each": took / KEYS, "key_folder_mb": size / 1e6}


def clips(server: Path) -> Iterator[EncryptedClip]:
    """Yield the first clip of the probe of each key."""
    manifest = read_manifest(server)
    for path in find_keys(server).values():
        key = open_key(path, manifest)
        yield EncryptedClip(values=key.probe().clip[:1], binding=key.manifest.binding)


def memory(bench: Bench) -> dict[str, Any]:
    """Read the resident memory with one key and with a thousand, by the number of keys in use."""
    server = fleet(bench)
    keys, away = server / "keys", bench.work / "keys"
    keys.rename(away)
    keys.mkdir()
    try:
        (away / "main").rename(keys / "main")
        alone = figures_of("fleet.numbers", "resident", "--work", bench.work)
        (keys / "main").rename(away / "main")
    finally:
        keys.rmdir()
        away.rename(keys)
    return {"one": alone, "thousand": figures_of("fleet.numbers", "resident", "--work", bench.work)}


def resident_memory(bench: Bench) -> dict[str, Any]:
    """Run clips under more and more keys, in this process; MiB after each number of ``HOT``."""
    session, seen = opened(bench.server), {}
    for used, clip in enumerate(itertools.islice(clips(bench.server), max(HOT)), start=1):
        session.run(clip)
        if used in HOT:
            seen[str(used)] = resident(os.getpid())
    return {"keys": len(find_keys(bench.server)), "mib": seen}


def first(bench: Bench) -> dict[str, Any]:
    """Compare the answer under a cold key with the one under a hot key."""
    server = fleet(bench)
    session, source = opened(server), clips(server)
    hot = next(source)
    cold = itertools.islice(source, 2 * _PAIRS + 2)
    return asdict(interleaved(lambda: session.run(hot), lambda: session.run(next(cold)), pairs=_PAIRS, warm_up=1))


def batches(bench: Bench) -> dict[str, list[float]]:
    """Compare batches under four keys, under one, and in the graph with one key inside; seconds of each round."""
    import onnxruntime

    server = fleet(bench)
    several = list(itertools.islice(clips(server), _BATCH))
    same = [several[0]] * _BATCH
    values = np.concatenate([clip.values for clip in same])
    baked_file = bench.work / "baked.onnx"
    if not baked_file.exists():
        embed(server, next(iter(find_keys(server).values())), baked_file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    baked = onnxruntime.InferenceSession(baked_file, options, providers=["CPUExecutionProvider"])
    session = opened(server)
    works: Mapping[str, Callable[[], object]] = {
        "baked": lambda: baked.run(None, {"clips": values}),
        "one key": lambda: session.run_batch(same),
        "four keys": lambda: session.run_batch(several),
    }
    return Turns(rounds=_ROUNDS).take(works)


def opened(server: Path) -> Session:
    """Open the model on two threads, with the bank of a server."""
    return open_session(server, SessionOptions(threads=THREADS))


MEASURES: Final[Mapping[str, Callable[[Bench], Any]]] = {
    "enroll": enroll,
    "memory": memory,
    "first": first,
    "batches": batches,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*MEASURES, "resident"])
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    bench = Bench(given.work)
    if given.what == "resident":
        print(json.dumps(resident_memory(bench)))
        return
    record(given.what, MEASURES[given.what](bench))


def record(what: str, figures: Any) -> None:
    """Add figures to the results; rounds of batches add up."""
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if what == "batches":
        before = results.get(what, {})
        figures = {name: [*before.get(name, []), *times] for name, times in figures.items()}
    results |= {what: figures, "cpu": cpu_name(), "threads": THREADS, "date": date.today().isoformat()}
    RESULT.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
