"""``lcve batch``: many videos to one table."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lcve_deploy.cli.options import (
    REMOTE,
    SESSION,
    AnyPath,
    as_json,
    key_option,
    remote_options,
    require_unused,
    sampling_options,
    session_options,
    signed_by_option,
    to_remote_options,
    to_session_options,
    views_option,
)
from lcve_deploy.cli.show import print_json, printable

if TYPE_CHECKING:
    from lcve_deploy.remote import RemoteOptions
    from lcve_deploy.verbs.batch import BatchResult, ClusterOptions, Job, Tally

__all__ = ["command"]

_SECONDS_BETWEEN: Final = 10.0
_MAX_NAMED: Final = 100
"""Videos without a result that are named at the end; the table has them all."""


@click.command()
@click.argument("videos", nargs=-1, required=True)
@click.option("--artifact", type=AnyPath, help="Folder with server/ and client/.")
@click.option("--client", "client_folder", type=AnyPath, help="client/ alone, for --server and --encrypt-only.")
@click.option("--server", help="Address of a model on a server, such as grpc://host:8001/model, which runs the clips.")
@key_option
@click.option(
    "-o", "--output", type=AnyPath, required=True, help="Table to write, .parquet; with --encrypt-only, a folder."
)
@click.option("--encrypt-only", is_flag=True, help="Write an encrypted clip of every video, and run nothing.")
@views_option
@sampling_options
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes of every row.")
@click.option("--logits", is_flag=True, help="Add the logits of every view, in the plain order.")
@session_options
@remote_options
@click.option("--workers", type=click.IntRange(min=1), help="Videos at a time.  [default: half of the CPUs]")
@click.option("--gpus", type=click.FloatRange(min=0), default=0, help="GPUs of each worker, or a part of one.")
@click.option("--ray-address", help="Ray cluster to work on.  [default: one on this machine, for this command]")
@click.option("--strict", is_flag=True, help="Exit with 1 if any row has an error.")
@signed_by_option
@as_json
def command(videos: tuple[str, ...], output: Path, strict: bool, as_json: bool, **given: Any) -> None:
    """Classify VIDEOS, or encrypt them, and write one row for each into a Parquet table.

    VIDEOS are files, folders (searched for video files) or @LIST, a text file with one path a line. A video that
    cannot be read, or that its worker does not survive three times, has its row with an error. Exits with 0 where
    rows have errors, with 1 where all have, or with --strict where any has.

    Killed at any time, the same command goes on where it was; rows that are done wait in .OUTPUT.part until
    the output appears, whole. On a cluster (--ray-address) all machines need the videos, the artifact, the key file
    and the output at the same paths. The key itself is never handed to Ray, and a token (LCVE_TOKEN) neither: on a
    cluster, use --token-file.
    """
    from lcve_deploy.verbs.batch import find_videos, run_batch

    job, cluster = _to_job(given), _to_cluster(given)
    found = find_videos(videos)
    output = Path(os.path.abspath(output))  # noqa: PTH100 (keeps links)
    result = run_batch(found, output, job, cluster, progress=_Progress())
    _show(result, as_json)
    if result.tally.errors == result.tally.rows or (strict and result.tally.errors):
        raise SystemExit(1)


def _to_job(given: dict[str, Any]) -> Job:
    from lcve_deploy.model.preprocess import Sampling
    from lcve_deploy.verbs.batch import Job

    _check_choice(given)
    session = to_session_options(given)
    artifact, client = given["artifact"], given["client_folder"]
    return Job(
        key_file=_absolute(given["key_file"]),
        artifact=_absolute(artifact) if artifact else None,
        client=_absolute(client) if client else None,
        sampling=Sampling(given["sampling"]) if given["sampling"] else None,
        remote=_remote(given),
        session=session if artifact else dataclasses.replace(session, signed_by=None),
        **{name: given[name] for name in ("encrypt_only", "server", "views", "stride", "top", "logits")},
    )


def _check_choice(given: dict[str, Any]) -> None:
    """Where clips go to, and what has no effect there."""
    artifact, client, server, encrypt = (given[n] for n in ("artifact", "client_folder", "server", "encrypt_only"))
    if (artifact is None) == (client is None):
        raise click.UsageError("one of --artifact and --client is needed, and not both")
    if client is not None and encrypt == (server is not None):
        raise click.UsageError("--client is for one of --server and --encrypt-only")
    if server is not None and client is None:
        raise click.UsageError("--server needs --client, and no --artifact")
    if server is None:
        require_unused(REMOTE, "for --server")
    else:
        require_unused(SESSION, "for an artifact on this machine, and --server is given")
    if encrypt:
        engine = (name for name in SESSION if name != "signed_by")
        require_unused(("top", "logits", *engine), "nothing runs with --encrypt-only")
    if client is not None:
        require_unused(("signed_by",), "checks server/ of an artifact, and --client is given")


def _remote(given: dict[str, Any]) -> RemoteOptions:
    """Workers may have another current folder, so paths are absolute."""
    options = to_remote_options(given)
    names = ("token_file", "tls_ca", "tls_cert", "tls_key")
    paths: dict[str, Any] = {name: _absolute(getattr(options, name)) for name in names if getattr(options, name)}
    return dataclasses.replace(options, **paths)


def _absolute(path: Path) -> Path:
    """Workers may have another current folder."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (keeps links)


def _to_cluster(given: dict[str, Any]) -> ClusterOptions:
    from lcve_deploy.verbs.batch import ClusterOptions

    return ClusterOptions(
        address=given["ray_address"], workers=given["workers"], threads=given["threads"], gpus=given["gpus"]
    )


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
    click.echo(f"{result.output}: {tally.rows} rows{kept}, {tally.errors} with an error, {result.seconds:.1f} s")


class _Progress:
    """Rows on standard error: a line that counts on a terminal, else one every ten seconds."""

    def __init__(self) -> None:
        self._live, self._started, self._shown = sys.stderr.isatty(), time.monotonic(), 0.0

    def __call__(self, tally: Tally) -> None:
        now, whole = time.monotonic(), tally.done == tally.rows
        if not (self._live or whole or now - self._shown >= _SECONDS_BETWEEN):
            return
        self._shown = now
        rate = (tally.done - tally.kept) / max(now - self._started, 1e-9)
        line = f"rows: {tally.done} of {tally.rows}, {rate:.2f} a second, {tally.errors} with an error"
        click.echo(f"\r\x1b[K{line}" if self._live else line, err=True, nl=whole or not self._live)
