"""``lcve batch``: many videos to one table."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, key_option
from lcve_deploy.cli.options.frames import FrameOptions, clip_options
from lcve_deploy.cli.options.groups import hands_over, require_unused
from lcve_deploy.cli.options.remote import REMOTE, RemoteRequest, remote_options, server_option
from lcve_deploy.cli.options.session import SESSION, SessionRequest, session_options
from lcve_deploy.cli.options.types import PATH, POSITIVE
from lcve_deploy.cli.progress import remaining
from lcve_deploy.cli.show import print_json, printable, say
from lcve_deploy.cli.verbosity import is_quiet

if TYPE_CHECKING:
    from lcve_deploy.remote import RemoteOptions
    from lcve_deploy.verbs.batch import BatchResult, ClusterOptions, Tally

__all__ = ["command"]

_SECONDS_BETWEEN: Final = 10.0
_MAX_NAMED: Final = 100
"""Videos without a result that are named at the end; the table has them all."""


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where clips go to."""

    artifact: Path | None
    client: Path | None
    server: str | None
    encrypt_only: bool

    def __post_init__(self) -> None:
        if (self.artifact is None) == (self.client is None):
            raise ValueError("one of --artifact and --client is needed, and not both")
        if self.client is not None and self.encrypt_only == (self.server is not None):
            raise ValueError("--client is for one of --server and --encrypt-only")
        if self.server is not None and self.client is None:
            raise ValueError("--server needs --client, and no --artifact")

    def refuse_what_has_no_effect(self) -> None:
        """Refuse options that mean nothing for this target."""
        if self.server is None:
            sealed = {"seal_to"} if self.encrypt_only else set[str]()
            require_unused(set(REMOTE) - sealed, "for --server")
        else:
            require_unused(SESSION, "for an artifact on this machine, and --server is given")
        if self.encrypt_only:
            engine = (name for name in SESSION if name != "signed_by")
            require_unused(("top", "logits", *engine), "nothing runs with --encrypt-only")
        if self.client is not None:
            require_unused(("signed_by",), "checks server/ of an artifact, and --client is given")


@dataclass(frozen=True, kw_only=True)
class _Table:
    """What a row holds."""

    top: int
    logits: bool


@dataclass(frozen=True, kw_only=True)
class _Workers:
    """On what the work is done."""

    workers: int | None
    gpus: float
    ray_address: str | None

    def options(self, threads: int | None) -> ClusterOptions:
        """Return the options of Ray."""
        from lcve_deploy.verbs.batch import ClusterOptions

        return ClusterOptions(address=self.ray_address, workers=self.workers, threads=threads, gpus=self.gpus)


def _make_target(
    *, artifact: Path | None, client_folder: Path | None, server: str | None, encrypt_only: bool
) -> _Target:
    return _Target(artifact=artifact, client=client_folder, server=server, encrypt_only=encrypt_only)


_TARGET: Final = cloup.option_group(
    "Target",
    cloup.option("--artifact", type=PATH, metavar="DIR", help="Folder with server/ and client/."),
    cloup.option(
        "--client",
        "client_folder",
        type=PATH,
        metavar="DIR",
        help="client/ alone, with --server or --encrypt-only.",
    ),
    server_option(required=False),
    cloup.option("--encrypt-only", is_flag=True, help="Write an encrypted clip of every video, and run nothing."),
)
_ROWS: Final = cloup.option_group(
    "Rows",
    cloup.option("--top", type=POSITIVE, default=5, show_default=True, metavar="N", help="Number of classes of a row."),
    cloup.option("--logits", is_flag=True, help="Add the logits of every view, in the plain order."),
)
_WORKERS: Final = cloup.option_group(
    "Workers",
    cloup.option("--workers", type=POSITIVE, metavar="N", help="Videos at a time.  [default: half of the CPUs]"),
    cloup.option(
        "--gpus", type=click.FloatRange(min=0), default=0, metavar="N", help="GPUs of each worker, or a part of one."
    ),
    cloup.option(
        "--ray-address", metavar="ADDRESS", help="Ray cluster.  [default: one on this machine, for this command]"
    ),
)


@lcve_command(
    "lcve batch videos/ --artifact service --key key.bin -o results.parquet",
    "lcve batch @list.txt --client client --key key.bin --encrypt-only -o clips",
)
@cloup.argument("videos", nargs=-1, required=True, help="Files, folders with videos, or @LIST with one path a line.")
@key_option
@cloup.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    metavar="PATH",
    help="Table to write, .parquet; with --encrypt-only, a folder.",
)
@cloup.option("--strict", is_flag=True, help="Exit with 1 if any row has an error.")
@as_json
@hands_over("target", _make_target, _TARGET)
@clip_options
@hands_over("table", _Table, _ROWS)
@hands_over("workers", _Workers, _WORKERS)
@session_options
@remote_options
def command(
    videos: tuple[str, ...],
    key_file: Path,
    output: Path,
    strict: bool,
    target: _Target,
    frames: FrameOptions,
    table: _Table,
    workers: _Workers,
    session: SessionRequest,
    remote: RemoteRequest,
    as_json: bool,
) -> None:
    """Classify videos, or encrypt them, and write one row for each into a Parquet table.

    A video that cannot be read, or that crashes its worker three times, has its row with an error. Exits with 0 if
    some rows have errors, with 1 if all have, or with --strict if any has.

    If it is killed, the same command resumes; rows that are done wait in .OUTPUT.part until the output appears,
    whole. On a cluster (--ray-address) all machines need the videos, the artifact, the key file and the output at
    the same paths. Ray never receives the key itself, nor a token (LCVE_TOKEN): on a cluster, use --token-file.

    With --seal-to, the clips of --encrypt-only are sealed before they are written, or the requests to --server.
    """
    from lcve_deploy.verbs.batch import Job, find_videos, run_batch

    target.refuse_what_has_no_effect()
    opening = session.options()
    job = Job(
        key_file=_absolute(key_file),
        artifact=_absolute(target.artifact) if target.artifact else None,
        client=_absolute(target.client) if target.client else None,
        server=target.server,
        encrypt_only=target.encrypt_only,
        views=frames.views,
        sampling=frames.sampling,
        stride=frames.stride,
        top=table.top,
        logits=table.logits,
        remote=_with_absolute_paths(remote.options()),
        session=opening if target.artifact else dataclasses.replace(opening, signed_by=None),
    )
    found = find_videos(videos)
    result = run_batch(found, _absolute(output), job, workers.options(session.threads), progress=_Progress())
    _show(result, as_json)
    if result.tally.errors == result.tally.rows or (strict and result.tally.errors):
        raise SystemExit(1)


def _with_absolute_paths(options: RemoteOptions) -> RemoteOptions:
    """Workers may have another current folder."""
    names = ("token_file", "tls_ca", "tls_cert", "tls_key")
    paths: dict[str, Any] = {name: _absolute(getattr(options, name)) for name in names if getattr(options, name)}
    return dataclasses.replace(options, **paths)


def _absolute(path: Path) -> Path:
    """Workers may have another current folder."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (keeps links)


def _show(result: BatchResult, as_json: bool) -> None:
    tally = result.tally
    if as_json:
        counts = {name: getattr(tally, name) for name in ("rows", "kept", "errors")}
        failures = [dataclasses.asdict(failure) for failure in result.failures]
        more = {"failures": failures, "attempts": result.attempts, "seconds": round(result.seconds, 3)}
        print_json({"output": str(result.output), **counts, **more})
        return
    for failure in result.failures[:_MAX_NAMED]:
        click.echo(f"no result: {printable(failure.path)}: {printable(failure.error)}", err=True)
    if len(result.failures) > _MAX_NAMED:
        click.echo(f"no result: {len(result.failures) - _MAX_NAMED} more; see the table", err=True)
    kept = f", {tally.kept} of them from before" if tally.kept else ""
    say(f"{result.output}: {tally.rows} rows{kept}, {tally.errors} with an error, {result.seconds:.1f} s")


class _Progress:
    """Rows on standard error: a line that counts on a terminal, else one every ten seconds."""

    def __init__(self) -> None:
        self._live, self._started, self._shown = sys.stderr.isatty(), time.monotonic(), 0.0

    def __call__(self, tally: Tally) -> None:
        now, whole = time.monotonic(), tally.done == tally.rows
        if is_quiet() or not (self._live or whole or now - self._shown >= _SECONDS_BETWEEN):
            return
        self._shown = now
        elapsed, done = now - self._started, tally.done - tally.kept
        rate = done / max(elapsed, 1e-9)
        line = f"rows: {tally.done} of {tally.rows}, {rate:.2f} a second, {tally.errors} with an error"
        if left := remaining(done, tally.rows - tally.kept, elapsed):
            line += f", {left}"
        click.echo(f"\r\x1b[K{line}" if self._live else line, err=True, nl=whole or not self._live)
