"""An engine as a service: requests a second, several keys in a batch, and the first run of each size of a batch."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.common.bench import Bench
from benchmarks.common.measure import interleaved
from benchmarks.common.processes import LCVE
from benchmarks.gpu.case import agreement, many_clips, reference_logits
from benchmarks.serving.servers import Clients, lcve_serve
from lcve_deploy import Client, EncryptedClip, PlainClip, SecurityKey, SessionOptions, open_session
from lcve_deploy.runtime.session import Session

__all__ = ["first_runs", "serving", "several_keys"]

_KEYS: Final = 8
_BATCHES: Final = 8
_MAX_BATCH: Final = 32
_CLIENTS: Final = (1, 8, 32)
_PROCESSES: Final = 4


def serving(bench: Bench, engine: str, seconds: float) -> dict[str, Any]:
    """Requests of one clip a second through ``lcve serve``, and the cores that it used, by protocol and clients."""
    shape, found = [1, *bench.encrypted.values.shape[1:]], {}
    options = ("--engine", engine, "--max-batch", str(_MAX_BATCH), "--log-level", "error")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(lcve_serve({"model": bench.server}, bench.work, *options))
        processes = [stack.enter_context(Clients()) for _ in range(_PROCESSES)]
        threads = stack.enter_context(ThreadPoolExecutor(_PROCESSES))
        for protocol in ("grpc", "http"):
            for clients in _CLIENTS:
                used = processes[: min(_PROCESSES, clients)]
                task = {"protocol": protocol, "address": getattr(server, protocol), "model": "model", "shape": shape}
                task |= {"clients": clients // len(used), "seconds": seconds}
                before, spent = server.statistics("model"), server.cpu_seconds
                started = time.perf_counter()
                answers = list(threads.map(lambda process, task=task: process.run("closed", **task), used))
                took, after = time.perf_counter() - started, server.statistics("model")
                runs, clips = (after[name] - before[name] for name in ("runs", "clips"))
                found[f"{protocol}, clients: {clients}"] = {
                    "rate": sum(each["answers"] / each["seconds"] for each in answers),
                    "milliseconds": 1e3 * float(np.median([t for each in answers for t in each["latencies"]])),
                    "clips_a_run": clips / runs,
                    "server_cores": (server.cpu_seconds - spent) / took,
                }
    return found


def first_runs(bench: Bench, engine: str) -> list[dict[str, float]]:
    """Milliseconds of the first and the second run of each size of a batch, in a new session."""
    session = open_session(bench.server, SessionOptions(engine=engine))
    found = []
    for batch in range(1, _BATCHES + 1):
        clips = bench.client.encrypt(PlainClip(values=many_clips(bench, batch)))
        first, second = (_milliseconds(session, [clips]) for _ in range(2))
        found.append({"batch": batch, "first": first, "second": second})
    return found


def several_keys(bench: Bench, engine: str, device: str) -> dict[str, Any]:
    """A batch of eight keys over a batch of one; the difference from the plain model; the cost of a cold key."""
    holders = _enrolled(bench)
    session, clips = open_session(bench.server, SessionOptions(engine=engine)), many_clips(bench, _KEYS)
    plain = [PlainClip(values=clip[None]) for clip in clips]
    one = [bench.client.encrypt(clip) for clip in plain]
    several = [holder.encrypt(clip) for holder, clip in zip(holders, plain, strict=True)]
    session.run_batch(one)
    session.run_batch(one[:1])
    cold, warm = (_milliseconds(session, several[:1]) for _ in range(2))
    logits = session.run_batch(several)
    ordered = np.concatenate([h.plain_order(row[None]) for h, row in zip(holders, logits, strict=True)])
    ratio = interleaved(partial(session.run_batch, one), partial(session.run_batch, several), pairs=20, warm_up=3)
    told = agreement(reference_logits(bench, clips, device), ordered)
    return {"keys": _KEYS, "cold": cold, "warm": warm, **told, **asdict(ratio)}


def _milliseconds(session: Session, clips: list[EncryptedClip]) -> float:
    started = time.perf_counter()
    session.run_batch(clips)
    return 1e3 * (time.perf_counter() - started)


def _enrolled(bench: Bench) -> list[Client]:
    """Holders of keys of their own, whose folders are at the model."""
    folder: Path = bench.work / "holders"
    names = [f"camera-{number}" for number in range(_KEYS)]
    if not folder.exists():
        (bench.work / "names.txt").write_text("".join(f"{name}\n" for name in names))
        owner = ["enroll", bench.artifact, "--key", bench.key_file, "--names", bench.work / "names.txt", "-o", folder]
        subprocess.run([*LCVE, *map(str, owner)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name in names:
        shutil.copytree(folder / name / "server", bench.server / "keys" / name, dirs_exist_ok=True)
    return [Client.open(folder / name / "client", SecurityKey.read(folder / name / "key.bin")) for name in names]
