"""What the sessions of all backends share: a batch that may mix keys, in rows of the bank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineRecord, ModelSpec, TensorSpec
from lcve_deploy.artifact.names import KEY_INPUT, STEP_INPUT
from lcve_deploy.clips import COEFFICIENTS, STEP, EncryptedClip, KeyRef
from lcve_deploy.runtime.bank import BankMemory, KeyBank, Tensors, no_keys
from lcve_deploy.runtime.key_folders import KeyChanges, KeyFolders
from lcve_deploy.runtime.session import Logits, check_clip

__all__ = ["BankedSession", "clip_arrays", "graph_inputs"]


class BankedSession(ABC):
    """A session whose backend computes clips with rows of the bank.

    Args:
        model: model of the artifact.
        engine: record of the engine; None for the artifact's own graph.
        memory: rows of the bank, where the backend reads them.
        rows: number of rows.
        folders: key folders that cold keys are loaded from; without them, keys are put into the bank.
    """

    def __init__(
        self,
        model: ModelSpec,
        engine: EngineRecord | None,
        *,
        memory: BankMemory,
        rows: int,
        folders: KeyFolders | None,
    ) -> None:
        self._model, self._engine, self._folders = model, engine, folders
        self._bank = KeyBank(model.bank, rows=rows, memory=memory, load=folders.load if folders else no_keys)

    @property
    def model(self) -> ModelSpec:
        """Clips, keyed tensors and output of the model."""
        return self._model

    @property
    def engine(self) -> EngineRecord | None:
        """Record of the engine; None for the artifact's own graph."""
        return self._engine

    @property
    def bank(self) -> KeyBank:
        """Rows of the keys in use."""
        return self._bank

    @property
    def folders(self) -> KeyFolders | None:
        """Key folders of the model folder; None for a session that was not opened from one."""
        return self._folders

    def refresh_keys(self) -> KeyChanges:
        """Look at the key folders again. Keys that are gone or changed are not used as they were by any later run."""
        changes = self._folders.refresh() if self._folders else KeyChanges()
        for key in changes.stale:
            self._bank.forget(key)
        return changes

    def run(self, clip: EncryptedClip) -> Logits:
        """Return the logits of encrypted clips of one key; see ``Session.run``."""
        return self.run_batch([clip])

    def run_batch(self, clips: Sequence[EncryptedClip]) -> Logits:
        """Return the logits of encrypted clips, whose keys may differ; see ``Session.run_batch``."""
        if not clips:
            raise ValueError("expected at least one clip, received none")
        for clip in clips:
            check_clip(clip, self._model)
            self._check_place(clip.values)
        return np.concatenate([self._run_leased(group) for group in self._groups(clips)])

    def run_with(self, values: npt.NDArray[Any], tensors: Tensors) -> Logits:
        """Return the logits of ciphertext under keyed tensors that belong to no key here; see ``Session.run_with``."""
        with self._bank.borrow(tensors) as row:
            return self._compute(values, np.full(len(values), row, np.int64))

    def _run_leased(self, clips: Sequence[EncryptedClip]) -> Logits:
        with self._bank.lease([clip.binding.key for clip in clips]) as leased:
            rows = np.repeat(leased, [clip.values.shape[0] for clip in clips])
            return self._compute(_joined([clip.values for clip in clips]), rows)

    def _groups(self, clips: Sequence[EncryptedClip]) -> Iterator[list[EncryptedClip]]:
        """Split a batch, in order, where it would need more rows than there are."""
        group: list[EncryptedClip] = []
        keys: set[KeyRef] = set()
        for clip in clips:
            if len(keys | {clip.binding.key}) > self._bank.rows:
                yield group
                group, keys = [], set()
            group.append(clip)
            keys.add(clip.binding.key)
        yield group

    def _check_place(self, values: Any) -> None:
        """Refuse values that the backend cannot read; by default it reads all. Nothing has run."""
        del values

    @abstractmethod
    def _compute(self, values: Any, rows: npt.NDArray[np.int64]) -> Logits:
        """Return the logits of clips, each with the row of the bank that it names.

        Raises:
            SessionError: the engine failed.
        """


def _joined(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def clip_arrays(model: ModelSpec, values: Any) -> dict[str, Any]:
    """Return the arrays of a batch of clips by the names of their inputs; records are taken apart."""
    if len(model.clip_inputs) == 1:
        return {model.input.name: values}
    return {model.input.name: values[COEFFICIENTS], STEP_INPUT: values[STEP]}


def graph_inputs(model: ModelSpec) -> tuple[TensorSpec, ...]:
    """Return all inputs of a model's graph: those of the clips, the row of each clip, and the bank."""
    return (*model.clip_inputs, TensorSpec(name=KEY_INPUT, dtype="int64", shape=(None,)), *model.bank)
