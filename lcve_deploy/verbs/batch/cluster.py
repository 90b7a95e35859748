"""Ray: a cluster that is there, or one on this machine for as long as a batch runs."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import SessionError
from lcve_deploy.libraries.ray import load_ray

__all__ = ["ClusterOptions", "Share", "connected"]

_PREFIX: Final = "lcve-ray-"
_MAX_TEMPORARY: Final = 30
"""Characters of a folder for temporary files: Ray makes sockets deep inside, whose paths are at most 107 long."""
_STORE_BYTES: Final = 2**27
_THREADS: Final = 2
_SECONDS_TO_ANSWER: Final = 10.0
_OF_TERMINALS: Final = re.compile(r"\x1b\[[0-9;]*m")
_BUSY: Final = "Ray waits for half a minute; try again when the machine is less busy, or with fewer --workers"
_LOOPBACK_ALONE: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""A cluster of one machine. Ray then keeps to loopback; else it takes the machine's own address in place of 127.0.0.1,
and all of its processes listen on every interface. The name is of the systems where that is Ray's default."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where a batch runs.

    Args:
        address: of a cluster; by default one on this machine, for this batch.
        workers: how many; by default half of the CPUs.
        threads: of one worker; by default what CPUs there are for each.
        gpus: for each worker.
    """

    address: str | None = None
    workers: int | None = None
    threads: int | None = None
    gpus: float = 0

    def share(self, cpus: int) -> Share:
        """Divide the CPUs of a machine or cluster."""
        workers = self.workers or max(1, cpus // (self.threads or _THREADS))
        return Share(workers=workers, threads=self.threads or max(1, cpus // workers), gpus=self.gpus)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Workers, and the threads and GPUs of each."""

    workers: int
    threads: int
    gpus: float


@contextlib.contextmanager
def connected(options: ClusterOptions, session: Path, log: Path) -> Iterator[tuple[Any, Share]]:
    """Ray, connected, and what each worker gets.

    Args:
        options: where.
        session: file that names the folder of a local Ray while there is one.
        log: file for what Ray prints.

    Raises:
        MissingDependencyError: Ray is not installed.
        SessionError: it cannot be started or reached, or it has failed.
    """
    if options.address is None:  # before Ray is loaded, which looks once
        os.environ.update(_LOOPBACK_ALONE, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    ray = load_ray("lcve batch")
    start = _started(ray, options, session) if options.address is None else _joined(ray, options)
    with _printing_to(log), start as share:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        try:
            yield ray, share
        except ray.exceptions.RayError as error:
            raise SessionError(
                f"Ray has failed: {_said(error)}", hint="run the same command again: it continues"
            ) from None


@contextlib.contextmanager
def _started(ray: Any, options: ClusterOptions, session: Path) -> Iterator[Share]:
    """A cluster on this machine: on loopback, behind a token of its own, in a folder for its owner alone."""
    _clear_away(session)
    _require_loopback(ray)
    share = options.share(_cpus())
    parent = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent if len(parent) <= _MAX_TEMPORARY else "/tmp"))  # noqa: S108
    session.write_text(str(folder), encoding="utf-8")
    try:
        _init(
            ray,
            address="local",
            num_cpus=share.workers * share.threads + 1,
            object_store_memory=_STORE_BYTES,
            include_dashboard=False,
            _node_ip_address=_own_address(ray),
            _temp_dir=str(folder / "r"),  # to which Ray lets everybody in; not so the folder around it
        )
        yield share
    finally:
        ray.shutdown()
        _clear_away(session)


@contextlib.contextmanager
def _joined(ray: Any, options: ClusterOptions) -> Iterator[Share]:
    _require_there(str(options.address))
    _init(ray, address=options.address)
    try:
        yield options.share(int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def _require_there(address: str) -> None:
    """Ray would try for minutes. What is no host with a port, such as ``auto``, is left to Ray."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise SessionError(f"there is no Ray cluster at {address}: {error}", hint="check --ray-address") from None


def _own_address(ray: Any) -> str:
    """Of this machine, as Ray sees it: that by which its processes find each other, and on which they listen."""
    return str(ray.util.get_node_ip_address())


def _require_loopback(ray: Any) -> None:
    address = _own_address(ray)
    if not ipaddress.ip_address(address).is_loopback:
        raise SessionError(
            f"Ray would listen on all interfaces of this machine, {address}, and not on loopback alone",
            hint="Ray was loaded before: run lcve batch by itself, or set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 first",
        )


def _init(ray: Any, **how: Any) -> None:
    """Start or join a cluster.

    Raises:
        SessionError: Ray raised any error; if a node starts too slowly, it raises a plain ``Exception``.
    """
    expected = (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError)
    try:
        ray.init(**how, log_to_driver=False, logging_level=logging.CRITICAL, configure_logging=True)
    except Exception as error:
        if type(error) is Exception:
            raise SessionError(f"Ray has not started in time: {_said(error)}", hint=_BUSY) from None
        if not isinstance(error, expected):
            raise
        raise SessionError(
            f"Ray cannot be started or reached: {_said(error)}", hint="check --ray-address, memory and free space"
        ) from None


def _said(error: Exception) -> str:
    """An error of Ray as one line: the first, or what follows a traceback, which is indented."""
    lines = [line for line in _OF_TERMINALS.sub("", str(error)).splitlines() if line.strip()]
    indented = [place for place, line in enumerate(lines) if line.startswith(" ")]
    reason = lines[indented[-1] + 1 :] if indented else []
    return " ".join(reason or lines[:1]) or type(error).__name__


@contextlib.contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Ray prints on standard output, and its compiled part on descriptor 2; ``sys.stderr`` stays what it was."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(log.open("a", encoding="utf-8"))
        kept = os.dup(2)
        stack.callback(os.close, kept)
        os.dup2(file.fileno(), 2)
        stack.callback(os.dup2, kept, 2)
        stack.enter_context(contextlib.redirect_stdout(file))
        if _is_descriptor_2(sys.stderr):
            stream = stack.enter_context(open(kept, "w", buffering=1, closefd=False))
            stack.enter_context(contextlib.redirect_stderr(stream))
        yield


def _is_descriptor_2(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 2)
    except (AttributeError, OSError):  # none, or one in memory
        return False


def _clear_away(session: Path) -> None:
    """Remove the folder of a local Ray, also of one whose command was killed."""
    if not session.exists():
        return
    folder = Path(session.read_text(encoding="utf-8"))
    if folder.name.startswith(_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
    session.unlink()


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
