"""``lcve batch``: classify or encrypt many videos, with one table of results."""

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
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.frames import FrameOptions, clip_options
from lcve_deploy.cli.options.groups import require_unused, value_from_options
from lcve_deploy.cli.options.remote import REMOTE, RemoteRequest, remote_options, server_option
from lcve_deploy.cli.options.session import SESSION, SessionRequest, session_options
from lcve_deploy.cli.options.types import PATH, POSITIVE
from lcve_deploy.cli.progress import remaining
from lcve_deploy.cli.show import print_json, printable, say
from lcve_deploy.cli.verbosity import is_quiet
from lcve_deploy.model.output import OutputKind

if TYPE_CHECKING:
    from lcve_deploy.remote import RemoteOptions
    from lcve_deploy.verbs.batch import BatchResult, ClusterOptions, Tally

__all__ = ["command"]

_REPORT_SECONDS: Final = 10.0
_MAX_LISTED: Final = 100
"""Maximum number of videos without a result to list at the end; the table has all of them."""


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where clips are run or sent."""

    artifact: Path | None
    client: Path | None
    server: str | None
    encrypt_only: bool
    key_file: Path | None
    enrolled: Path | None

    def __post_init__(self) -> None:
        if (self.key_file is None) == (self.enrolled is None):
            raise ValueError("pass either --key or --enrolled")
        if self.enrolled is not None and self.client is not None:
            raise ValueError("--enrolled has a client folder for each camera: leave out --client")
        if self.enrolled is None and (self.artifact is None) == (self.client is None):
            raise ValueError("pass either --artifact or --client")
        if self.artifact is None and self.encrypt_only == (self.server is not None):
            source = "--client" if self.enrolled is None else "--enrolled without --artifact"
            raise ValueError(f"{source} needs either --server or --encrypt-only")
        if self.server is not None and self.artifact is not None:
            raise ValueError("--server needs --client or --enrolled instead of --artifact")

    def refuse_unused_options(self) -> None:
        """Refuse options that have no effect on this target."""
        if self.server is None:
            of_clips = {"seal_to", "pad"} if self.encrypt_only else set[str]()
            require_unused(set(REMOTE) - of_clips, "only with --server")
        else:
            require_unused(SESSION, "only for an artifact on this machine, not with --server")
        if self.encrypt_only:
            engine = (name for name in SESSION if name != "signed_by")
            require_unused(("top", "logits", *engine), "no model runs with --encrypt-only")
        if self.artifact is None:
            require_unused(("signed_by",), "only with --artifact: it checks server/, which is not used without it")


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Content of a row."""

    top: int
    logits: bool


@dataclass(frozen=True, kw_only=True)
class _Workers:
    """Workers, and the Ray cluster that runs them."""

    workers: int | None
    gpus: float
    ray_address: str | None

    def options(self, threads: int | None) -> ClusterOptions:
        """Return the options of Ray."""
        from lcve_deploy.verbs.batch import ClusterOptions

        return ClusterOptions(address=self.ray_address, workers=self.workers, threads=threads, gpus=self.gpus)


def _make_target(
    *,
    key_file: Path | None,
    enrolled: Path | None,
    artifact: Path | None,
    client_folder: Path | None,
    server: str | None,
    encrypt_only: bool,
) -> _Target:
    return _Target(
        artifact=artifact,
        client=client_folder,
        server=server,
        encrypt_only=encrypt_only,
        key_file=key_file,
        enrolled=enrolled,
    )


_KEYS: Final = cloup.option_group(
    "Keys",
    cloup.option("--key", "key_file", type=PATH, metavar="FILE", help="Key file, for all videos."),
    cloup.option(
        "--enrolled",
        type=PATH,
        metavar="DIR",
        help="Output of lcve enroll --names: each video is encrypted with the key of the camera after which a folder "
        "above it is named.",
    ),
)


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
    cloup.option(
        "--encrypt-only", is_flag=True, help="Only write an encrypted clip of each video, without running a model."
    ),
)
_ROWS: Final = cloup.option_group(
    "Rows",
    cloup.option(
        "--top", type=POSITIVE, default=5, show_default=True, metavar="N", help="Number of classes in each row."
    ),
    cloup.option("--logits", is_flag=True, help="Add the model's output for all views, in the plain order."),
)
_WORKERS: Final = cloup.option_group(
    "Workers",
    cloup.option(
        "--workers", type=POSITIVE, metavar="N", help="Videos to process at a time.  [default: half of the CPUs]"
    ),
    cloup.option(
        "--gpus", type=click.FloatRange(min=0), default=0, metavar="N", help="GPUs for each worker; may be a fraction."
    ),
    cloup.option(
        "--ray-address",
        metavar="ADDRESS",
        help="Ray cluster to use.  [default: Ray on this machine, only for this command]",
    ),
)


@lcve_command(
    "lcve batch videos/ --artifact service --key key.bin -o results.parquet",
    "lcve batch @list.txt --client client --key key.bin --encrypt-only -o clips",
    "lcve batch cameras/ --enrolled enrolled --artifact service -o results.parquet",
)
@cloup.argument(
    "videos", nargs=-1, required=True, help="Files, folders with videos, or @LIST, a file with one path on each line."
)
@cloup.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    metavar="PATH",
    help="Table to write, .parquet; with --encrypt-only, a folder.",
)
@cloup.option("--strict", is_flag=True, help="Exit with status 1 if any row has an error.")
@as_json
@value_from_options("target", _make_target, _KEYS, _TARGET)
@clip_options
@value_from_options("table", _Table, _ROWS)
@value_from_options("workers", _Workers, _WORKERS)
@session_options
@remote_options
def command(
    videos: tuple[str, ...],
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

    A video that cannot be read, or that crashes its worker three times, gets a row with an error. The exit status is
    1 if all rows have errors or, with --strict, if any row has one. Otherwise it is 0.

    If the model takes single pictures, folders are searched for pictures as well, and every picture has a row.

    If the command is killed, run it again to resume. Finished rows are kept in .OUTPUT.part until the complete output
    appears in one step. On a cluster (--ray-address), all machines need the videos, the artifact, the key file and
    the output at the same paths. Ray never receives the key or a token: on a cluster, use --token-file instead of
    LCVE_TOKEN.

    With --enrolled, one job serves many cameras: videos/camera-7/*.mp4 are encrypted with the key of
    enrolled/camera-7, and the model is opened once for all.

    With --seal-to, the clips of --encrypt-only are sealed before they are written, or the requests to --server.
    """
    from lcve_deploy.verbs.batch import Job, assign_cameras, find_videos, run_batch

    target.refuse_unused_options()
    local = session.options()
    job = Job(
        key_file=_absolute(target.key_file) if target.key_file else None,
        enrolled=_absolute(target.enrolled) if target.enrolled else None,
        artifact=_absolute(target.artifact) if target.artifact else None,
        client=_absolute(target.client) if target.client else None,
        server=target.server,
        encrypt_only=target.encrypt_only,
        views=frames.views,
        sampling=frames.sampling,
        stride=frames.stride,
        step=frames.step,
        top=table.top,
        logits=table.logits,
        remote=_with_absolute_paths(remote.options()),
        session=local if target.artifact else dataclasses.replace(local, signed_by=None),
    )
    if job.output() is OutputKind.TOKENS and not (job.logits or job.encrypt_only):
        raise click.UsageError("the model answers tokens, which are added to the table only with --logits")
    paths = find_videos(videos, pictures=job.takes_pictures())
    if target.enrolled:
        paths = assign_cameras(paths, target.enrolled)
    result = run_batch(paths, _absolute(output), job, workers.options(session.threads), progress=_Progress())
    _show(result, as_json)
    if result.tally.errors == result.tally.rows or (strict and result.tally.errors):
        raise SystemExit(1)


def _with_absolute_paths(options: RemoteOptions) -> RemoteOptions:
    """Make paths absolute, because workers may have another current folder."""
    names = ("token_file", "tls_ca", "tls_cert", "tls_key")
    paths: dict[str, Any] = {name: _absolute(getattr(options, name)) for name in names if getattr(options, name)}
    return dataclasses.replace(options, **paths)


def _absolute(path: Path) -> Path:
    """Make a path absolute, because workers may have another current folder."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (keeps links)


def _show(result: BatchResult, as_json: bool) -> None:
    tally = result.tally
    if as_json:
        counts = {name: getattr(tally, name) for name in ("rows", "kept", "errors")}
        failures = [dataclasses.asdict(failure) for failure in result.failures]
        details = {"failures": failures, "attempts": result.attempts, "seconds": round(result.seconds, 3)}
        print_json({"output": str(result.output), **counts, **details})
        return
    for failure in result.failures[:_MAX_LISTED]:
        click.echo(f"no result: {printable(failure.path)}: {printable(failure.error)}", err=True)
    if len(result.failures) > _MAX_LISTED:
        click.echo(f"no result: {len(result.failures) - _MAX_LISTED} more; see the table", err=True)
    kept = f", {tally.kept} of them from an earlier run" if tally.kept else ""
    say(f"{result.output}: {tally.rows} rows{kept}, {tally.errors} with an error, {result.seconds:.1f} s")


class _Progress:
    """Show the number of finished rows on standard error: live on a terminal, otherwise every ten seconds."""

    def __init__(self) -> None:
        self._live, self._started, self._shown = sys.stderr.isatty(), time.monotonic(), 0.0

    def __call__(self, tally: Tally) -> None:
        now, is_complete = time.monotonic(), tally.done == tally.rows
        if is_quiet() or not (self._live or is_complete or now - self._shown >= _REPORT_SECONDS):
            return
        self._shown = now
        elapsed, done = now - self._started, tally.done - tally.kept
        rate = done / max(elapsed, 1e-9)
        line = f"rows: {tally.done} of {tally.rows}, {rate:.2f} per second, {tally.errors} with an error"
        if left := remaining(done, tally.rows - tally.kept, elapsed):
            line += f", {left}"
        click.echo(f"\r\x1b[K{line}" if self._live else line, err=True, nl=is_complete or not self._live)
