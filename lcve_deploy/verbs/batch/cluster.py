"""Connect to an existing Ray cluster, or run one on this machine for the duration of a batch."""

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

__all__ = ["Allocation", "ClusterOptions", "connect"]

_PREFIX: Final = "lcve-ray-"
_MAX_TEMPORARY: Final = 30
"""Maximum length of the path of the temporary folder: paths of sockets, which Ray creates in it, have at most 107."""
_STORE_BYTES: Final = 2**27
_THREADS: Final = 2
_CONNECT_SECONDS: Final = 10.0
_TERMINAL_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_BUSY: Final = "Ray waits for 30 seconds; try again when the machine is less busy, or with fewer --workers"
_LOOPBACK_ONLY: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keep a local cluster on loopback. Otherwise Ray replaces 127.0.0.1 by the machine's own address, and its processes
listen on every interface. The variable is named after the systems where this is Ray's default."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where a batch runs.

    Args:
        address: address of a Ray cluster; by default one is started on this machine for this batch.
        workers: number of workers; by default half the number of CPUs.
        threads: threads of each worker; by default the CPUs are divided equally.
        gpus: GPUs of each worker; may be a fraction.
    """

    address: str | None = None
    workers: int | None = None
    threads: int | None = None
    gpus: float = 0

    def allocate(self, cpus: int) -> Allocation:
        """Divide the CPUs of a machine or cluster among workers."""
        workers = self.workers or max(1, cpus // (self.threads or _THREADS))
        return Allocation(workers=workers, threads=self.threads or max(1, cpus // workers), gpus=self.gpus)


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Number of workers, and the threads and GPUs of each."""

    workers: int
    threads: int
    gpus: float


@contextlib.contextmanager
def connect(options: ClusterOptions, session: Path, log: Path) -> Iterator[tuple[Any, Allocation]]:
    """Connect to a cluster, or start one, until the end of the block.

    Args:
        options: where.
        session: file that contains the folder of a local Ray while it runs.
        log: file for Ray's output.

    Yields:
        The module ``ray``, and what each worker gets.

    Raises:
        MissingDependencyError: Ray is not installed.
        SessionError: Ray cannot be started or reached, or has failed.
    """
    if options.address is None:  # Ray reads these variables once, when it is imported
        os.environ.update(_LOOPBACK_ONLY, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    ray = load_ray("lcve batch")
    connection = _start_local(ray, options, session) if options.address is None else _join(ray, options)
    with _redirect_output(log), connection as allocation:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        try:
            yield ray, allocation
        except ray.exceptions.RayError as error:
            raise SessionError(
                f"Ray has failed: {_error_line(error)}", hint="run the same command again: the batch resumes"
            ) from None


@contextlib.contextmanager
def _start_local(ray: Any, options: ClusterOptions, session: Path) -> Iterator[Allocation]:
    """Run a cluster on this machine: on loopback, with a random token, in a folder that only its owner can read."""
    _remove_session(session)
    _require_loopback(ray)
    allocation = options.allocate(_cpus())
    parent = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent if len(parent) <= _MAX_TEMPORARY else "/tmp"))  # noqa: S108
    session.write_text(str(folder), encoding="utf-8")
    try:
        _init(
            ray,
            address="local",
            num_cpus=allocation.workers * allocation.threads + 1,
            object_store_memory=_STORE_BYTES,
            include_dashboard=False,
            _node_ip_address=_own_address(ray),
            _temp_dir=str(folder / "r"),  # Ray makes this readable by everyone; its parent stays private
        )
        yield allocation
    finally:
        ray.shutdown()
        _remove_session(session)


@contextlib.contextmanager
def _join(ray: Any, options: ClusterOptions) -> Iterator[Allocation]:
    _require_reachable(str(options.address))
    _init(ray, address=options.address)
    try:
        yield options.allocate(int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Fail fast if nothing listens at ``host:port``; Ray would retry for minutes. Ignore other addresses (``auto``)."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SessionError(f"there is no Ray cluster at {address}: {error}", hint="check --ray-address") from None


def _own_address(ray: Any) -> str:
    """Return the address of this machine on which Ray's processes listen."""
    return str(ray.util.get_node_ip_address())


def _require_loopback(ray: Any) -> None:
    address = _own_address(ray)
    if not ipaddress.ip_address(address).is_loopback:
        raise SessionError(
            f"Ray would listen on {address}, on all interfaces of this machine, instead of loopback only",
            hint="Ray was imported before: run lcve batch by itself, or set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 first",
        )


def _init(ray: Any, **options: Any) -> None:
    """Start or join a cluster.

    Raises:
        SessionError: Ray raised an error, among them the plain ``Exception`` for a node that starts too slowly.
    """
    expected = (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError)
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.CRITICAL, configure_logging=True)
    except Exception as error:
        if type(error) is Exception:
            raise SessionError(f"Ray has not started in time: {_error_line(error)}", hint=_BUSY) from None
        if not isinstance(error, expected):
            raise
        raise SessionError(
            f"Ray cannot be started or reached: {_error_line(error)}", hint="check --ray-address, memory and disk space"
        ) from None


def _error_line(error: Exception) -> str:
    """Return an error of Ray as one line: its first, or if it has an (indented) traceback, what follows that."""
    lines = [line for line in _TERMINAL_COLOURS.sub("", str(error)).splitlines() if line.strip()]
    indented = [index for index, line in enumerate(lines) if line.startswith(" ")]
    reason = lines[indented[-1] + 1 :] if indented else []
    return " ".join(reason or lines[:1]) or type(error).__name__


@contextlib.contextmanager
def _redirect_output(log: Path) -> Iterator[None]:
    """Redirect standard output and file descriptor 2, to which Ray prints, to a file; keep ``sys.stderr``."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(log.open("a", encoding="utf-8"))
        original = os.dup(2)
        stack.callback(os.close, original)
        os.dup2(file.fileno(), 2)
        stack.callback(os.dup2, original, 2)
        stack.enter_context(contextlib.redirect_stdout(file))
        if _is_descriptor_2(sys.stderr):
            stream = stack.enter_context(open(original, "w", buffering=1, closefd=False))
            stack.enter_context(contextlib.redirect_stderr(stream))
        yield


def _is_descriptor_2(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 2)
    except (AttributeError, OSError):  # no stream, or one in memory
        return False


def _remove_session(session: Path) -> None:
    """Remove the folder of a local Ray, even if its command was killed."""
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
