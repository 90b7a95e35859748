"""One worker of a batch: it holds the key and an engine, and makes the rows that it is named."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lcve_deploy.clipfile import write_clip_file
from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    LcveError,
    MismatchError,
    RequestError,
    UnavailableError,
    WriteError,
)
from lcve_deploy.files.secrets import KeyFileWarning
from lcve_deploy.model.predictions import Prediction
from lcve_deploy.process import disable_core_dumps
from lcve_deploy.verbs.batch.job import Job
from lcve_deploy.verbs.batch.stage import MAX_ATTEMPTS, Stage

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Worker"]

_OF_EVERY_ROW: Final = (WriteError, MismatchError, DeniedError, UnavailableError, DeadlineError, RequestError)
"""Errors that are not of one video: the output's disk, or the server. The batch stops, and can resume later."""

_LOST_IN_OPENING: Final = (
    f"{MAX_ATTEMPTS} workers in a row were lost while they opened the engine: killed, perhaps because memory ran out, "
    "or crashed; try fewer --workers, or another --engine"
)


class Worker:
    """An actor of Ray Data. Its results go to the stage; Ray sees numbers of rows, paths and texts of errors.

    Args:
        job: what to do.
        stage: where results go.
        threads: of one inference on a CPU.
    """

    def __init__(self, job: Job, stage: Stage, threads: int | None) -> None:
        disable_core_dumps()
        self._job, self._stage, self._refusal = job, stage, ""
        if stage.openings.lost() >= MAX_ATTEMPTS:
            self._refusal = _LOST_IN_OPENING
            return
        with stage.openings.under_way(), warnings.catch_warnings():
            warnings.simplefilter("ignore", KeyFileWarning)  # the user has been warned by the command
            self._open(threads)

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Make rows.

        Args:
            batch: columns ``row``, ``path`` (bytes) and ``clip``.

        Returns:
            Columns ``row``, ``failed`` (has an error of its own) and ``problem``: why the whole batch must stop.
        """
        import pyarrow

        answers = [self._answer(**fields) for fields in batch.to_pylist()]
        schema = {"row": pyarrow.int64(), "failed": pyarrow.bool_(), "problem": pyarrow.string()}
        return pyarrow.Table.from_pylist(answers, schema=pyarrow.schema(list(schema.items())))

    def _open(self, threads: int | None) -> None:
        """Open both sides. A refusal is kept and told: an error here would end an actor, without its hint."""
        try:
            if self._job.encrypt_only:
                self._client = self._job.open_client()
            else:
                self._classifier = self._job.open_classifier(threads)
        except (LcveError, OSError) as error:
            self._refusal = _one_line(error)

    def _answer(self, row: int, path: bytes, clip: str) -> dict[str, Any]:
        """Make a row, unless another attempt has; ``problem`` is for what would befall every row."""
        if self._refusal:
            return {"row": row, "failed": True, "problem": self._refusal}
        try:
            if not self._stage.is_done(row):
                self._stage.write(row, self._make(row, Path(os.fsdecode(path)), clip))
            failed = self._stage.read(row)["error"] is not None
        except (*_OF_EVERY_ROW, OSError) as error:  # OSError: the stage cannot be read or written
            return {"row": row, "failed": True, "problem": _one_line(error)}
        return {"row": row, "failed": failed, "problem": None}

    def _make(self, row: int, path: Path, clip: str) -> dict[str, Any]:
        started, fields, error = time.monotonic(), dict[str, Any](), None
        if self._stage.begin(row):
            try:
                with self._stage.remembering(row):
                    fields = self._encrypted(path, clip) if self._job.encrypt_only else self._classified(path)
            except _OF_EVERY_ROW:
                raise
            except (LcveError, OSError, MemoryError) as reason:
                error = _one_line(reason)
        else:
            error = _lost(self._stage.failures(row))
        return {**fields, "error": error, "seconds": time.monotonic() - started}

    def _encrypted(self, path: Path, clip: str) -> dict[str, Any]:
        """Write an encrypted clip; one that a lost attempt has left is made again."""
        target = self._stage.clips / clip
        target.unlink(missing_ok=True)
        preprocess = self._job.preprocess(self._client.settings)
        video = self._client.read_video(path, views=self._job.views, preprocess=preprocess)
        write_clip_file(target, self._client.encrypt_video(video), seal_to=self._job.remote.seal_to)
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"clip": clip, "digest": digest, "notes": list(video.notes)}

    def _classified(self, path: Path) -> dict[str, Any]:
        job = self._job
        found = self._classifier.classify(path, views=job.views, sampling=job.sampling, stride=job.stride, top=job.top)
        return {
            "classes": [prediction.name for prediction in found.predictions],
            **_scores(found.predictions),
            **({"logits": found.logits.tolist()} if job.logits else {}),
            "notes": list(found.notes),
        }


def _scores(best: Sequence[Prediction]) -> dict[str, Any]:
    """The column that the problem type fills: ``values`` of a regression, else ``probabilities``."""
    name, field = ("values", "value") if best[0].value is not None else ("probabilities", "probability")
    return {name: [getattr(prediction, field) for prediction in best]}


def _lost(failures: Sequence[str]) -> str:
    """Why there is no result after all attempts: what they failed with, as far as they could say."""
    lost = MAX_ATTEMPTS - len(failures)
    if not failures:
        return f"its worker was lost in each of {lost} attempts: killed, perhaps because memory ran out, or crashed"
    others = f"; in {lost} others the worker was lost" if lost else ""
    return f"{len(failures)} of {MAX_ATTEMPTS} attempts failed{others}; the last failure: {failures[-1]}"


def _one_line(error: BaseException) -> str:
    """What an error says, as one line with its hint."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    hint = getattr(error, "hint", "")
    return " ".join(f"{text}; {hint}".split() if hint else text.split())
