"""A worker of a batch: holds the key and an engine, and produces the rows assigned to it."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
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
    UnknownKeyError,
    WriteError,
)
from lcve_deploy.files.secrets import KeyFileWarning
from lcve_deploy.model.output import OutputKind
from lcve_deploy.model.predictions import Prediction
from lcve_deploy.process import disable_core_dumps
from lcve_deploy.verbs.batch.job import Job
from lcve_deploy.verbs.batch.opened import OpenedKeys
from lcve_deploy.verbs.batch.stage import MAX_ATTEMPTS, Stage

if TYPE_CHECKING:
    import pyarrow

    from lcve_deploy.client import Client
    from lcve_deploy.verbs.classify import Classification, Classifier

__all__ = ["Worker"]

_BATCH_ERRORS: Final = (WriteError, MismatchError, DeniedError, UnavailableError, DeadlineError, RequestError)
"""Errors that affect every row: the disk of the output, or the server. They stop the batch, which can resume later. A
key that is gone affects only the rows of its camera, if each camera has its own."""

_LOST_WHILE_OPENING: Final = (
    f"{MAX_ATTEMPTS} workers in a row were lost while they opened the engine: they crashed or were killed, perhaps "
    "because memory ran out; try fewer --workers, or another --engine"
)


class Worker:
    """An actor of Ray Data. It writes results to the stage; Ray receives only row numbers, paths and error messages.

    Args:
        job: what to do.
        stage: where to write results.
        threads: CPU threads of one inference; None for the default of the engine.
    """

    def __init__(self, job: Job, stage: Stage, threads: int | None) -> None:
        disable_core_dumps()
        self._job, self._stage, self._open_error = job, stage, ""
        if stage.openings.count_lost() >= MAX_ATTEMPTS:
            self._open_error = _LOST_WHILE_OPENING
            return
        with stage.openings.mark_opening(), warnings.catch_warnings():
            warnings.simplefilter("ignore", KeyFileWarning)  # the command has already warned the user
            self._open(threads)

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Process rows.

        Args:
            batch: columns ``row`` (int64), ``path`` (bytes), ``clip`` and ``camera`` (string).

        Returns:
            Columns ``row`` (int64), ``failed`` (bool: the row has an error) and ``problem`` (string: why the whole
            batch must stop, or null).
        """
        import pyarrow

        answers = [self._process(**fields) for fields in batch.to_pylist()]
        schema = {"row": pyarrow.int64(), "failed": pyarrow.bool_(), "problem": pyarrow.string()}
        return pyarrow.Table.from_pylist(answers, schema=pyarrow.schema(list(schema.items())))

    def _open(self, threads: int | None) -> None:
        """Open client and model. An error is kept and reported for every row; raised here, it would lose its hint."""
        try:
            self._keys = OpenedKeys(self._job, threads)
        except (LcveError, OSError) as error:
            self._open_error = _one_line(error)

    def _process(self, row: int, path: bytes, clip: str, camera: str) -> dict[str, Any]:
        """Produce a row, unless another attempt already has; see ``__call__`` for the fields of the answer."""
        if self._open_error:
            return {"row": row, "failed": True, "problem": self._open_error}
        try:
            if not self._stage.is_done(row):
                self._stage.write(row, self._attempt(row, Path(os.fsdecode(path)), clip, camera))
            failed = self._stage.read(row)["error"] is not None
        except (*_BATCH_ERRORS, OSError) as error:  # OSError: the stage cannot be read or written
            return {"row": row, "failed": True, "problem": _one_line(error)}
        return {"row": row, "failed": failed, "problem": None}

    def _attempt(self, row: int, path: Path, clip: str, camera: str) -> dict[str, Any]:
        started, fields, error = time.monotonic(), dict[str, Any](), None
        if self._stage.begin(row):
            try:
                with self._stage.record_failure(row):
                    fields = self._run(path, clip, camera)
            except UnknownKeyError as reason:
                if not camera:
                    raise
                error = _one_line(reason)
            except _BATCH_ERRORS:
                raise
            except (LcveError, OSError, MemoryError) as reason:
                error = _one_line(reason)
        else:
            error = _attempts_error(self._stage.failures(row))
        return {**fields, "error": error, "seconds": time.monotonic() - started}

    def _run(self, path: Path, clip: str, camera: str) -> dict[str, Any]:
        if self._job.encrypt_only:
            return self._encrypt(path, clip, self._keys.client(camera))
        return self._classify(path, self._keys.classifier(camera))

    def _encrypt(self, path: Path, clip: str, client: Client) -> dict[str, Any]:
        """Write an encrypted clip, and replace one that a lost attempt has left."""
        target = self._stage.clips / clip
        target.unlink(missing_ok=True)
        preprocess = self._job.preprocess(client.settings)
        video = client.read_video(path, views=self._job.views, preprocess=preprocess)
        remote = self._job.remote
        write_clip_file(target, client.encrypt_video(video), seal_to=remote.seal_to, pad=remote.pad)
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"clip": clip, "digest": digest, "notes": list(video.notes)}

    def _classify(self, path: Path, classifier: Classifier) -> dict[str, Any]:
        job = self._job
        result = classifier.classify(path, views=job.views, sampling=job.sampling, stride=job.stride, top=job.top)
        values = {result.output.value: result.logits.tolist()} if job.logits or result.output is _ALWAYS else {}
        return {**_ANSWERS.get(result.output, _nothing)(result, job.top), **values, "notes": list(result.notes)}


def _nothing(result: Classification, top: int) -> dict[str, Any]:
    return {}


def _predicted(result: Classification, top: int) -> dict[str, Any]:
    return {"classes": [prediction.name for prediction in result.predictions], **_scores(result.predictions)}


def _shares(result: Classification, top: int) -> dict[str, Any]:
    shares = list(result.class_shares().items())[:top]
    return {"classes": [name for name, _ in shares], "shares": [share for _, share in shares]}


_ALWAYS: Final = OutputKind.FEATURES
"""Output that every row has."""
_ANSWERS: Final[Mapping[OutputKind, Callable[[Classification, int], dict[str, Any]]]] = {
    OutputKind.LOGITS: _predicted,
    OutputKind.TOKEN_LOGITS: _shares,
}
"""Columns in addition to the output itself."""


def _scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return the column of the problem type: ``values`` of a regression, otherwise ``probabilities``."""
    is_regression = predictions[0].value is not None
    name, field = ("values", "value") if is_regression else ("probabilities", "probability")
    return {name: [getattr(prediction, field) for prediction in predictions]}


def _attempts_error(failures: Sequence[str]) -> str:
    """Return the error of a row after all attempts, with the errors that workers could record."""
    lost = MAX_ATTEMPTS - len(failures)
    if not failures:
        return f"its worker was lost in each of {lost} attempts: it crashed or was killed, perhaps for lack of memory"
    others = f"; in {lost} others the worker was lost" if lost else ""
    return f"{len(failures)} of {MAX_ATTEMPTS} attempts failed{others}; the last failure: {failures[-1]}"


def _one_line(error: BaseException) -> str:
    """Return the message of an error with its hint, as one line."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    hint = getattr(error, "hint", "")
    return " ".join(f"{text}; {hint}".split() if hint else text.split())
