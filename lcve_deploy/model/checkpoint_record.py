"""How an export read its checkpoint, as written to ``client.json``, so that the file can be read the same way again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["CheckpointForm", "CheckpointRecord"]


class CheckpointForm(StrEnum):
    """Form of a checkpoint."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """Options under which a checkpoint is the model that was exported. Nothing in it depends on a key.

    Args:
        form: form of the checkpoint; its options apply to no other form.
        options: options of ``lcve export`` and their values, such as ``--num-heads`` and ``12``: those that were given,
            and those that state what was assumed. Of ``--class-vectors``, the value is the SHA-256 of the file.
    """

    form: CheckpointForm
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
