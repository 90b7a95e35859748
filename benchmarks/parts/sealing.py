"""Sealed and plain clips side by side: bytes, sealing and opening, and whole requests over HTTP and gRPC."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common.bench import Bench
from benchmarks.common.cases import Case
from benchmarks.common.measure import Turns, interleaved, ratio
from benchmarks.common.models import TINY
from benchmarks.common.summary import medians
from benchmarks.common.tables import interval, number, paragraph, table
from benchmarks.records import Measured
from benchmarks.serving.servers import lcve_serve
from lcve_deploy import ClipFile, RemoteOptions, RemoteSession, SealingKey, Views
from lcve_deploy.clipfile import dump_clip
from lcve_deploy.sealing import Kind, Suite, open_sealed, read_envelope

TITLE = "Sealing"
CASES = (Case(name="all", rounds=40, rehearsed=False),)

_LIGHT = replace(TINY, name="light", frames=16, pixels=224, cube=(2, 32, 32))
_NAMES = {Suite.X25519: "X25519", Suite.HYBRID: "ML-KEM-768 and X25519"}
_PROTOCOLS = {"http": "HTTP", "grpc": "gRPC"}


def measure(bench: Bench, _: str, turns: Turns) -> dict[str, Any]:
    work = bench.work / "sealing"
    work.mkdir(exist_ok=True)
    light = Bench(work, size=_LIGHT)
    keys = {suite: SealingKey.create(suite) for suite in Suite}
    return {
        "pairs": turns.rounds,
        "bytes": _bytes(light, keys),
        "clips": _clips(light, keys, turns),
        "requests": _requests(light, keys, turns),
    }


def _content(light: Bench) -> ClipFile:
    return ClipFile(clip=light.encrypted, views=Views())


def _dump(content: ClipFile, key: SealingKey | None = None) -> bytes:
    memory = io.BytesIO()
    dump_clip(content, memory, seal_to=key.public_key if key else None)
    return memory.getvalue()


def _bytes(light: Bench, keys: dict[Suite, SealingKey]) -> dict[str, int]:
    content = _content(light)
    return {
        "values": content.clip.values.nbytes,
        "plain": len(_dump(content)),
        **{suite.value: len(_dump(content, key)) for suite, key in keys.items()},
    }


def _clips(light: Bench, keys: dict[Suite, SealingKey], turns: Turns) -> dict[str, Any]:
    """Seconds to write a clip plain and sealed, and to open it against a copy of its bytes; in memory."""
    content, pairs = _content(light), turns.rounds
    figures = {}
    for suite, key in keys.items():
        sealed = read_envelope(_dump(content, key), kind=Kind.CLIP)
        opening = partial(open_sealed, sealed, key, binding=content.clip.binding, size=content.clip.values.nbytes)
        seal = interleaved(partial(_dump, content), partial(_dump, content, key), pairs=pairs, warm_up=3)
        opened = interleaved(partial(bytes, sealed.body), opening, pairs=pairs, warm_up=3)
        figures[suite.value] = {"seal": asdict(seal), "open": asdict(opened)}
    return figures


def _requests(light: Bench, keys: dict[Suite, SealingKey], turns: Turns) -> dict[str, Any]:
    """Seconds of whole requests of one clip, plain and sealed in turns, at one server that opens both suites."""
    folder = light.work / "keys"
    folder.mkdir(exist_ok=True)
    for suite, key in keys.items():
        for old in (folder / f"{suite}.key", folder / f"{suite}.pub"):
            old.unlink(missing_ok=True)
        key.write(folder / f"{suite}.key")
    with lcve_serve({"model": light.server}, light.work, "--threads", "1", "--open-with", str(folder)) as server:
        return {
            protocol: _of_protocol(light, f"{protocol}://{getattr(server, protocol)}/model", folder, turns)
            for protocol in _PROTOCOLS
        }


def _of_protocol(light: Bench, address: str, folder: Path, turns: Turns) -> dict[str, Any]:
    from lcve_deploy import SealingPublicKey

    options = {
        "plain": RemoteOptions(),
        **{suite.value: RemoteOptions(seal_to=SealingPublicKey.read(folder / f"{suite}.pub")) for suite in Suite},
    }
    with contextlib.ExitStack() as stack:
        sessions = {
            name: stack.enter_context(RemoteSession(address, light.encrypted.binding, how))
            for name, how in options.items()
        }
        works = {name: partial(session.run, light.encrypted) for name, session in sessions.items()}
        times = turns.take(works, warm_up=5)
    return {name: asdict(ratio(times["plain"], times[name])) for name in times if name != "plain"}


def section(here: Measured, _: Sequence[Measured]) -> str:
    figures, processes = medians(here.cases["all"]["found"]), len(here.cases["all"]["found"])
    sizes, clips = figures["bytes"], figures["clips"]
    text = paragraph(
        f"A clip of {sizes['values'] / 1e6:.2f} MB, sealed with HPKE (AES-256-GCM). {figures['pairs']} interleaved",
        f"pairs of each comparison in each of {processes} processes; figures are medians of the processes.",
        "Sealing is compared with writing the same clip plain, into memory; opening with a",
        "copy of its bytes. Requests are those of one client to `lcve serve` on loopback, with a model of two small",
        "blocks, so that transport and sealing are much of the time: both ends seal and open on this machine.",
    )
    rows = [
        (
            _NAMES[suite],
            str(sizes[suite] - sizes["values"]),
            str(sizes["plain"] - sizes["values"]),
            *_times(clips[suite]["seal"]),
            *_times(clips[suite]["open"]),
        )
        for suite in Suite
    ]
    head = (
        "suite",
        "sealed file, bytes over the values",
        "plain file",
        "plain ms",
        "sealed ms",
        "ratio",
        "copy ms",
        "open ms",
        "ratio",
    )
    requests = [
        (_PROTOCOLS[protocol], _NAMES[Suite(suite)], *_times(row), interval(row))
        for protocol, by_suite in figures["requests"].items()
        for suite, row in by_suite.items()
    ]
    columns = ("protocol", "suite", "plain ms", "sealed ms", "ratio", "outermost quartiles of a process")
    return f"{text}\n\n{table(head, rows)}\n\n{table(columns, requests)}"


def _times(row: dict[str, Any]) -> tuple[str, str, str]:
    return number(1e3 * row["first"], 2), number(1e3 * row["second"], 2), number(row["ratio"], 2)
