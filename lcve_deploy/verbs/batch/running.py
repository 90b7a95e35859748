"""Run a batch: process the rows that have no result yet, then write the output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import SessionError
from lcve_deploy.files.writing import new_file, require_absent
from lcve_deploy.verbs.batch.cluster import Allocation, ClusterOptions, connect
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
    """Progress of a batch, in rows.

    Args:
        rows: all rows of the batch.
        done: rows with a result.
        kept: rows of ``done`` from an earlier run of the command.
        errors: rows of ``done`` whose result is an error.
    """

    rows: int
    done: int
    kept: int
    errors: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A video that could not be processed.

    Args:
        path: path as in the table.
        error: error message, one line.
    """

    path: str
    error: str


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Result of a batch.

    Args:
        output: the table, or the folder of clips with its table.
        tally: final counts.
        failures: rows with an error, in the order of the videos.
        attempts: attempts in this run; more than its rows if workers were lost.
        seconds: duration of this run.
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
    """Write one row for each video. An unfinished batch with the same settings resumes where it stopped.

    Args:
        videos: videos in the order of the rows.
        output: table to write; with ``encrypt_only``, a folder. Must not exist.
        job: what to do.
        cluster: where to do it.
        progress: called after every row.

    Raises:
        ExistsError: the output already exists, or another command is working on it.
        KeyFileError, ArtifactError, SignatureError: the key file or the artifact is invalid.
        MismatchError: key and artifact do not belong together, or an earlier run had other settings.
        MissingDependencyError: Ray is not installed.
        SessionError: no engine can be opened, or Ray fails; finished rows are kept.
        WriteError: rows or output cannot be written; finished rows are kept.
    """
    started = time.monotonic()
    require_absent(output)
    identity = job.identity(videos)
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
    """Process all rows that have no result yet."""
    kept = stage.done()
    errors = sum(stage.read(row)["error"] is not None for row in kept)
    tally = Tally(rows=len(videos), done=len(kept), kept=len(kept), errors=errors)
    progress(tally)
    missing = [video for video in videos if video.row not in kept]
    if not missing:
        return tally
    with connect(cluster, stage.session, stage.log) as (ray, allocation):
        for failed in _process(ray, allocation, missing, job, stage):
            done, errors = tally.done + 1, tally.errors + failed
            tally = Tally(rows=tally.rows, done=done, kept=tally.kept, errors=errors)
            progress(tally)
    return tally


def _process(ray: Any, allocation: Allocation, missing: Sequence[Video], job: Job, stage: Stage) -> Iterator[bool]:
    """Process rows with Ray Data, and yield for each finished row whether it has an error.

    A block is one row and a worker has one block at a time, so a lost worker costs one attempt at one row. Ray would
    restart the worker with the same row forever; the stage counts the attempts and limits them.

    Raises:
        SessionError: an error that affects every row.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.actor_task_retry_on_errors = True  # an unexpected error counts as a lost worker
    items = [
        {
            "row": video.row,
            "path": video.path.encode(errors="surrogateescape"),
            "clip": video.clip,
            "camera": video.camera,
        }
        for video in missing
    ]
    answers = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_kwargs={"job": job, "stage": stage, "threads": allocation.threads},
        compute=ray.data.ActorPoolStrategy(size=min(allocation.workers, len(items)), max_tasks_in_flight_per_actor=1),
        num_cpus=allocation.threads,
        num_gpus=allocation.gpus or None,
    )
    for table in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for answer in table.to_pylist():
            yield _failed(answer)


def _failed(answer: dict[str, Any]) -> bool:
    """Return whether a row has an error of its own; see ``Worker``.

    Raises:
        SessionError: the row has an error that affects every row.
    """
    if answer["problem"] is not None:
        raise SessionError(answer["problem"], hint="fix this, then run the same command again: the batch resumes")
    return bool(answer["failed"])


def _failures(stage: Stage, videos: Sequence[Video]) -> Iterator[Failure]:
    for video in videos:
        error = stage.read(video.row)["error"]
        if error is not None:
            yield Failure(path=shown_path(video), error=error)


def _finish(stage: Stage, videos: Sequence[Video], output: Path, job: Job) -> None:
    """Write the table, move the output into place, and remove the stage."""
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
