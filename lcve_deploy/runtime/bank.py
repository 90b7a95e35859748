"""The bank of a session: keyed tensors of the keys in use, one row for each key.

A run leases the rows of its keys. Rows that no run holds are given to other keys, the least recently used first. A
cold key is read, checked and copied while other runs continue; requests that want the same cold key wait for one load.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import TensorSpec
from lcve_deploy.artifact.names import BANK_PREFIX
from lcve_deploy.clips import KeyRef
from lcve_deploy.errors import ArtifactError, UnknownKeyError

__all__ = ["BankMemory", "HostMemory", "KeyBank", "LoadKey", "Tensors", "bank_shape", "keyed_name", "no_keys"]

Tensors = Mapping[str, npt.NDArray[Any]]
"""Keyed tensors of one key, by their names in a key folder."""

LoadKey = Callable[[KeyRef], Tensors]


class BankMemory(Protocol):
    """Memory of the rows, where the runtime reads it."""

    def write(self, row: int, tensors: Tensors) -> None:
        """Replace one row. No run reads it during that; runs that start afterwards see it."""


class HostMemory:
    """Rows in arrays of this process, by the names of the graph's inputs. Rows never written take no physical memory.

    Args:
        specs: the tensors of the model's bank.
        rows: number of rows.
    """

    def __init__(self, specs: Iterable[TensorSpec], rows: int) -> None:
        self.arrays = {spec.name: np.zeros((rows, *bank_shape(spec)), spec.dtype) for spec in specs}

    def write(self, row: int, tensors: Tensors) -> None:
        """Replace one row."""
        for name, array in self.arrays.items():
            array[row] = tensors[keyed_name(name)]

    def subset(self, rows: npt.NDArray[np.int64]) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64]]:
        """Return the rows of one run alone, for a runtime whose work depends on the number of rows that it is given.

        Args:
            rows: number of the row of each clip, int64 ``[clips]``, at least one.

        Returns:
            Arrays by the names of the graph's inputs: views if the rows follow each other, copies otherwise; and the
            place of each clip's row in them, int64 ``[clips]``.
        """
        distinct, places = np.unique(rows, return_inverse=True)
        first, end = int(distinct[0]), int(distinct[-1]) + 1
        chosen = slice(first, end) if end - first == len(distinct) else distinct
        return {name: array[chosen] for name, array in self.arrays.items()}, places


def no_keys(key: KeyRef) -> Tensors:
    """Refuse every key: the loader of a session that has only those that it was given.

    Raises:
        UnknownKeyError: always.
    """
    raise UnknownKeyError(f"there is no key {key} here", hint="put it into the bank first")


class _State(Enum):
    LOADING = auto()
    READY = auto()
    FAILED = auto()


@dataclass(kw_only=True, eq=False)
class _Row:
    """A row that has a key. It is free again if no run holds it and it is not in the index."""

    number: int
    state: _State = _State.LOADING
    holders: int = 1
    indexed: bool = True


class KeyBank:
    """Which key has which row. Threads may share it.

    Args:
        specs: the tensors of the model's bank, ``[keys, ...]``.
        rows: number of rows, at least 1.
        memory: where the rows are.
        load: reads and checks the tensors of a cold key; called without any lock, by one thread for a key.

    Raises:
        ValueError: there is no row.
    """

    def __init__(self, specs: Sequence[TensorSpec], *, rows: int, memory: BankMemory, load: LoadKey = no_keys) -> None:
        if rows < 1:
            raise ValueError(f"expected at least 1 row, received {rows}")
        self.rows, self._specs, self._memory, self._load = rows, tuple(specs), memory, load
        self._index: OrderedDict[KeyRef, _Row] = OrderedDict()  # the least recently used first
        self._free = [*reversed(range(rows))]
        self._changed, self._turn = threading.Condition(), threading.Lock()
        self.evicted: Callable[[], None] = _ignore
        """Called whenever a key loses its row to another."""

    def keys(self) -> tuple[KeyRef, ...]:
        """Return the keys whose tensors are in place, the least recently used first."""
        with self._changed:
            return tuple(key for key, row in self._index.items() if row.state is _State.READY)

    def __contains__(self, key: KeyRef) -> bool:
        """Whether the tensors of a key are in place."""
        with self._changed:
            row = self._index.get(key)
            return row is not None and row.state is _State.READY

    def put(self, key: KeyRef, tensors: Tensors) -> None:
        """Put the tensors of a key in place, or replace them; runs that hold the old ones end with them.

        The key stays until ``forget``, or until other keys need its row; it is then loaded again, if it can be.

        Raises:
            ArtifactError: the tensors are not those of the model's bank.
        """
        self._release(self._acquire([key], lambda _: tensors, replace=True))

    @contextmanager
    def borrow(self, tensors: Tensors) -> Iterator[int]:
        """Keep tensors in a row during a block, under no key, so that no request can ask for them.

        Yields:
            The number of the row.

        Raises:
            ArtifactError: the tensors are not those of the model's bank.
        """
        nobody = KeyRef(key_id=secrets.token_hex(16), salt=secrets.token_hex(16))
        held = self._acquire([nobody], lambda _: tensors)
        self.forget(nobody)
        try:
            yield held[0].number
        finally:
            self._release(held)

    def forget(self, key: KeyRef) -> None:
        """Let no later run use the tensors of a key that are in place or being loaded; current runs end with them."""
        with self._changed:
            self._unlist(key)

    @contextmanager
    def lease(self, keys: Sequence[KeyRef]) -> Iterator[npt.NDArray[np.int64]]:
        """Hold the rows of keys during a block. Keys that are not in place are loaded; waits for rows if all are held.

        Args:
            keys: in any order, with repetitions; at most as many different ones as there are rows.

        Yields:
            The row of each key, int64 ``[len(keys)]``.

        Raises:
            UnknownKeyError, ArtifactError, ...: what loading a key raised; no row is held.
            ValueError: there are more different keys than rows.
        """
        distinct = list(dict.fromkeys(keys))
        if len(distinct) > self.rows:
            raise ValueError(f"expected at most {self.rows} different keys, received {len(distinct)}")
        held = self._acquire(distinct, self._load)
        try:
            number = {key: row.number for key, row in zip(distinct, held, strict=True)}
            yield np.array([number[key] for key in keys], np.int64)
        finally:
            self._release(held)

    def _acquire(self, keys: Sequence[KeyRef], load: LoadKey, *, replace: bool = False) -> list[_Row]:
        """Hold a row with the tensors of each key. If another thread's load of one fails, load it here."""
        while True:
            held, cold = self._reserve(keys, replace=replace)
            done = False
            try:
                for key, row in cold:  # its own loads first, so threads that wait for each other's loads all end
                    self._fill(row, load(key))
                done = self._loaded(held)
            finally:
                if not done:
                    self._give_up(held, cold)
            if done:
                return held

    def _reserve(self, keys: Sequence[KeyRef], *, replace: bool) -> tuple[list[_Row], list[tuple[KeyRef, _Row]]]:
        """Hold the rows of all keys at once, and return those to be filled; nothing is held while waiting for rows.

        Threads take turns, so one that needs many rows is not overtaken for ever.
        """
        with self._turn, self._changed:
            if replace:
                for key in keys:
                    self._unlist(key)
            self._changed.wait_for(lambda: self._has_rows_for(keys))
            held = {key: self._hold(row) for key, row in self._index.items() if key in keys}
            cold = [(key, self._take(key)) for key in keys if key not in held]
            held.update(cold)
            for key in keys:
                self._index.move_to_end(key)
            return [held[key] for key in keys], cold

    def _has_rows_for(self, keys: Collection[KeyRef]) -> bool:
        idle = sum(not row.holders for key, row in self._index.items() if key not in keys)
        return sum(key not in self._index for key in keys) <= len(self._free) + idle

    def _hold(self, row: _Row) -> _Row:
        row.holders += 1
        return row

    def _take(self, key: KeyRef) -> _Row:
        if not self._free:
            self._unlist(next(key for key, row in self._index.items() if not row.holders))
            self.evicted()
        self._index[key] = row = _Row(number=self._free.pop())
        return row

    def _fill(self, row: _Row, tensors: Tensors) -> None:
        _require_fitting(tensors, self._specs)
        self._memory.write(row.number, tensors)
        with self._changed:
            row.state = _State.READY
            self._changed.notify_all()

    def _loaded(self, held: Sequence[_Row]) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: all(row.state is not _State.LOADING for row in held))
            return all(row.state is _State.READY for row in held)

    def _give_up(self, held: Sequence[_Row], cold: Iterable[tuple[KeyRef, _Row]]) -> None:
        with self._changed:
            for key, row in cold:
                if row.state is not _State.READY:
                    row.state = _State.FAILED
                    if self._index.get(key) is row:
                        self._unlist(key)
        self._release(held)

    def _release(self, held: Iterable[_Row]) -> None:
        with self._changed:
            for row in held:
                row.holders -= 1
                self._reclaim(row)
            self._changed.notify_all()

    def _unlist(self, key: KeyRef) -> None:
        row = self._index.pop(key, None)
        if row is not None:
            row.indexed = False
            self._reclaim(row)

    def _reclaim(self, row: _Row) -> None:
        if not row.holders and not row.indexed:
            self._free.append(row.number)
            self._changed.notify_all()


def _ignore() -> None:
    """Do nothing."""


def _require_fitting(tensors: Tensors, specs: Iterable[TensorSpec]) -> None:
    expected = {keyed_name(spec.name): (spec.dtype, bank_shape(spec)) for spec in specs}
    received = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    problems = [
        f"{name} is {_text(received.get(name))}, expected {_text(expected.get(name))}"
        for name in sorted(expected.keys() | received.keys())
        if expected.get(name) != received.get(name)
    ]
    if problems:
        raise ArtifactError(f"the keyed tensors do not fit the model: {'; '.join(problems)}")


def _text(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return "missing" if tensor is None else f"{tensor[0]} {list(tensor[1])}"


def bank_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of one row of a tensor of the bank."""
    return tuple(int(size or 0) for size in spec.shape[1:])


def keyed_name(name: str) -> str:
    """Return the name in key folders of a tensor of the bank."""
    return name.removeprefix(BANK_PREFIX)
