"""Write the rows of a stage to one Parquet file, in the order of the videos."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final

from lcve_deploy.model.output import OutputKind
from lcve_deploy.verbs.batch.job import Job
from lcve_deploy.verbs.batch.stage import Stage
from lcve_deploy.verbs.batch.videos import Video

if TYPE_CHECKING:
    import pyarrow

__all__ = ["columns", "shown_path", "write_table"]

_ROWS_AT_ONCE: Final = 1024

_PREDICTED: Final = {"classes": "list of string", "probabilities": "list of double", "values": "list of double"}
_ANSWERED: Final[Mapping[OutputKind, Mapping[str, str]]] = {
    OutputKind.LOGITS: _PREDICTED,
    OutputKind.FEATURES: {"features": "list of list of float"},
    OutputKind.TOKENS: {},
    OutputKind.TOKEN_LOGITS: {"classes": "list of string", "shares": "list of double"},
}
"""Columns by what the model answers."""
_VALUES: Final[Mapping[OutputKind, Mapping[str, str]]] = {
    OutputKind.LOGITS: {"logits": "list of list of float"},
    OutputKind.FEATURES: {},
    OutputKind.TOKENS: {"tokens": "list of list of list of float"},
    OutputKind.TOKEN_LOGITS: {"token_logits": "list of list of list of float"},
}
"""Columns of the output itself, by what the model answers."""
_ENCRYPTED: Final = {"clip": "string", "digest": "string"}
_SHARED: Final = {"notes": "list of string", "error": "string", "seconds": "double"}


def columns(job: Job) -> dict[str, str]:
    """Return the columns of a job's table, with their types."""
    kind = job.output()
    own = _ENCRYPTED if job.encrypt_only else {**_ANSWERED[kind], **(_VALUES[kind] if job.logits else {})}
    camera = {} if job.enrolled is None else {"camera": "string"}
    return {"path": "string", **camera, "views": "string", **own, **_SHARED}


def write_table(file: IO[bytes], stage: Stage, videos: Sequence[Video], job: Job) -> None:
    """Write all rows, with at most ``_ROWS_AT_ONCE`` of them in memory.

    Args:
        file: file to write to.
        stage: stage with a result for every row.
        videos: videos in the order of the rows.
        job: determines the columns.
    """
    import pyarrow
    import pyarrow.parquet

    schema = _schema(job)
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(videos), _ROWS_AT_ONCE):
            rows = [_row(stage, video, job) for video in videos[start : start + _ROWS_AT_ONCE]]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def shown_path(video: Video) -> str:
    """Return the path as it was given or found, as text; bytes that are not UTF-8 become ``\\xff``."""
    return os.fsencode(video.given).decode(errors="backslashreplace")


def _row(stage: Stage, video: Video, job: Job) -> dict[str, Any]:
    camera = {} if job.enrolled is None else {"camera": video.camera}
    return {"path": shown_path(video), **camera, "views": str(job.views), **stage.read(video.row)}


def _schema(job: Job) -> pyarrow.Schema:
    import pyarrow

    kinds = {"string": pyarrow.string(), "double": pyarrow.float64(), "float": pyarrow.float32()}

    def kind(text: str) -> Any:
        return pyarrow.list_(kind(text[8:])) if text.startswith("list of ") else kinds[text]

    return pyarrow.schema([(name, kind(text)) for name, text in columns(job).items()])
