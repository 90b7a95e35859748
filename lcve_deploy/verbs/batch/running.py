"""Run a batch: what is not done yet goes to the workers, and what is whole becomes the output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import SessionError
from lcve_deploy.files.writing import new_file, require_absent
from lcve_deploy.verbs.batch.cluster import ClusterOptions, Share, connected
from lcve_deploy.verbs.batch.job import Job
from lcve_deploy.verbs.batch.stage import Stage, open_stage
from lcve_deploy.verbs.batch.table import shown_path, write_table
from lcve_deploy.verbs.batch.videos import Video
from lcve_deploy.verbs.batch.worker import Worker

__all__ = ["CLIPS_TABLE", "BatchResult", "Failure", "Tally", "run_batch"]

CLIPS_TABLE: Final = "clips.parquet"
"""Name of the table in a folder of encrypted clips."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How far a batch is.

    Args:
        rows: of the batch.
        done: with a result.
        kept: of these, from an earlier run of the command.
        errors: of these, with an error.
    """

    rows: int
    done: int
    kept: int
    errors: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A video without a result.

    Args:
        path: as in the table.
        error: one line.
    """

    path: str
    error: str


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What came out.

    Args:
        output: the table, or the folder of clips with its table.
        tally: of all rows.
        failures: the rows with an error, in the order of the videos.
        attempts: at rows, in this run; more than rows where workers were lost.
        seconds: of this run.
    """

    output: Path
    tally: Tally
    failures: tuple[Failure, ...]
    attempts: int
    seconds: float


def run_batch(
    videos: Sequence[Video],
    output: Path,
    job: Job,
    cluster: ClusterOptions,
    *,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> BatchResult:
    """Make one row a video; begun before with the same settings, it resumes where it stopped.

    Args:
        videos: in order.
        output: table to write; with ``encrypt_only``, a folder. Must not exist.
        job: what to do.
        cluster: where.
        progress: told of every row.

    Raises:
        ExistsError: the output is there, or another command is at work on it.
        KeyFileError, ArtifactError, MismatchError, SignatureError: key or artifact is invalid, or an earlier run
            had other settings.
        MissingDependencyError: Ray is not installed.
        SessionError: no engine can be opened, or Ray fails; rows that are done are kept.
        WriteError: rows or output cannot be written; rows that are done are kept.
    """
    started = time.monotonic()
    require_absent(output)
    identity = job.identity(job.open_client().settings, videos)
    with open_stage(output, identity) as stage:
        tally = _fill(stage, videos, job, cluster, progress)
        attempts, failures = stage.attempts(), tuple(_failures(stage, videos))
        _finish(stage, videos, output, job)
    return BatchResult(
        output=output, tally=tally, failures=failures, attempts=attempts, seconds=time.monotonic() - started
    )


def _fill(
    stage: Stage, videos: Sequence[Video], job: Job, cluster: ClusterOptions, progress: Callable[[Tally], None]
) -> Tally:
    """See to it that every row has a result."""
    kept = stage.done()
    errors = sum(stage.read(row)["error"] is not None for row in kept)
    tally = Tally(rows=len(videos), done=len(kept), kept=len(kept), errors=errors)
    progress(tally)
    missing = [video for video in videos if video.row not in kept]
    if not missing:
        return tally
    with connected(cluster, stage.session, stage.log) as (ray, share):
        for failed in _worked(ray, share, missing, job, stage):
            done, errors = tally.done + 1, tally.errors + failed
            tally = Tally(rows=tally.rows, done=done, kept=tally.kept, errors=errors)
            progress(tally)
    return tally


def _worked(ray: Any, share: Share, missing: Sequence[Video], job: Job, stage: Stage) -> Iterator[bool]:
    """Whether each row has an error, as they are done.

    A block of Ray Data is one row and a worker has one in hand, so a lost worker costs one attempt at one row. Ray
    restarts it and gives it the row again, for ever; the attempts are counted in the stage, which ends that.

    Raises:
        SessionError: what befalls every row.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.actor_task_retry_on_errors = True  # an error that nobody foresaw counts as a lost worker
    items = [
        {"row": video.row, "path": video.path.encode(errors="surrogateescape"), "clip": video.clip} for video in missing
    ]
    answers = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_kwargs={"job": job, "stage": stage, "threads": share.threads},
        compute=ray.data.ActorPoolStrategy(size=min(share.workers, len(items)), max_tasks_in_flight_per_actor=1),
        num_cpus=share.threads,
        num_gpus=share.gpus or None,
    )
    for table in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for answer in table.to_pylist():
            yield _failed(answer)


def _failed(answer: dict[str, Any]) -> bool:
    """Whether a row has an error of its own; see ``Worker``."""
    if answer["problem"] is not None:
        raise SessionError(answer["problem"], hint="fix this, then run the same command again: it continues")
    return bool(answer["failed"])


def _failures(stage: Stage, videos: Sequence[Video]) -> Iterator[Failure]:
    for video in videos:
        error = stage.read(video.row)["error"]
        if error is not None:
            yield Failure(path=shown_path(video), error=error)


def _finish(stage: Stage, videos: Sequence[Video], output: Path, job: Job) -> None:
    """Write the table, bring the output to its name, and remove the stage."""
    if job.encrypt_only:
        for left in [*stage.clips.glob(".*.part"), stage.clips / CLIPS_TABLE]:
            left.unlink(missing_ok=True)
        with new_file(stage.clips / CLIPS_TABLE) as file:
            write_table(file, stage, videos, job)
        require_absent(output)
        stage.clips.rename(output)
    else:
        with new_file(output) as file:
            write_table(file, stage, videos, job)
    stage.remove()
