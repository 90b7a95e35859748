"""Keys of a served model: which of its key folders may be used, and how changes of them take effect.

A key is used only after its folder was checked and its probe was answered correctly in this process. That happens in
the background, one key at a time; a request for a key moves it to the front. A changed folder is a new one: the
tensors of the old one answer, while they are in memory, until the new ones have passed. Whatever goes wrong is the
failure of this key alone. Clients cannot tell a key that has failed, or that their token does not cover, from one that
is not there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from lcve_deploy.artifact import Probe
from lcve_deploy.artifact.key_folder import KeyFolder
from lcve_deploy.clips import KeyRef
from lcve_deploy.errors import LcveError, RequestError, UnavailableError, UnknownKeyError
from lcve_deploy.runtime.bank import KeyBank, Tensors
from lcve_deploy.runtime.boundary import version_boundary
from lcve_deploy.runtime.key_folders import KeyFolders
from lcve_deploy.serving.telemetry.metrics import KeyMetrics

__all__ = ["AllowedKeys", "KeyProof", "ServedKeys"]

_LOG: Final = logging.getLogger(__name__)

_MIN_BACKOFF: Final = 1.0
_MAX_BACKOFF: Final = 60.0
_FIRST_KEYS: Final = 8
"""Keys that are checked before a model is served, so that a model with few keys is ready for all of them."""

AllowedKeys = frozenset[str] | None
"""Ids of the keys that a client may use; None for all."""

KeyProof = Callable[[Tensors, Probe], None]
"""Runs the probe of a key with its tensors, and raises if the answer is wrong; called in a thread."""


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """A key folder that has failed its check."""

    digest: str
    reason: str
    backoff: float
    retry_at: float


class ServedKeys:
    """Keys of one served model. Use it on one event loop only; ``admit`` may be called in threads.

    Args:
        model: name of the model, for the log.
        folders: key folders of the model.
        bank: keyed tensors in memory.
        prove: runs the probe of a key.
        in_background: does work that uses the engine while no request waits for it.
        readers: threads that read key folders.
        metrics: counts of this model's keys.
    """

    def __init__(
        self,
        model: str,
        folders: KeyFolders,
        bank: KeyBank,
        *,
        prove: KeyProof,
        in_background: Callable[[Callable[[], None]], Awaitable[None]],
        readers: Executor,
        metrics: KeyMetrics,
    ) -> None:
        self._model, self._folders, self._bank, self._readers = model, folders, bank, readers
        self._prove, self._in_background, self._metrics = prove, in_background, metrics
        self._proven: dict[KeyRef, str] = {}
        self._failed: dict[KeyRef, _Failure] = {}
        self._refused: dict[str, str] = {}
        self._pending: OrderedDict[KeyRef, None] = OrderedDict()
        self._wanted: set[KeyRef] = set()
        self._checking: KeyRef | None = None
        self._seconds = 1.0
        self._changed = asyncio.Condition()
        folders.admit = self.admit
        bank.evicted = metrics.record_eviction
        self._worker = asyncio.create_task(self._work())

    def counts(self) -> dict[str, int]:
        """Return the number of keys by state, for the metrics."""
        return {
            "ready": len(self._proven),
            "checking": len(self._pending) + (self._checking is not None),
            "failed": len(self._failed) + len(self._refused),
            "hot": len(self._bank.keys()),
        }

    def name_of(self, key: KeyRef) -> str:
        """Return the name of a key's folder; empty if there is none."""
        folder = self._folders.keys.get(key)
        return folder.folder.name if folder else ""

    def require(self, key: KeyRef, allowed: AllowedKeys) -> None:
        """Check that a client may use a key now.

        Raises:
            UnknownKeyError: there is no such key, its folder has failed, or the client may not use it.
            UnavailableError: the key has not been checked yet; it is next.
        """
        if allowed is not None and key.key_id not in allowed:
            raise self._unknown(key)
        if key in self._proven:
            return
        if key in self._pending or key == self._checking:
            self._wanted.add(key)
            if key in self._pending:
                self._pending.move_to_end(key, last=False)
            raise self._in_check(key)
        raise self._unknown(key)

    def only(self, allowed: AllowedKeys) -> KeyRef:
        """Return the key of requests that do not name theirs.

        Raises:
            RequestError: the client may use more than one key, or none.
        """
        keys = [key for key in self._folders.keys if allowed is None or key.key_id in allowed]
        if len(keys) != 1:
            raise RequestError(
                f"the model {self._model} needs the key that the clips are encrypted with: the request has no "
                "parameters lcve_key_id and lcve_salt",
                hint="send the five parameters that begin with lcve_, from client.json",
            )
        return keys[0]

    def admit(self, folder: KeyFolder) -> None:
        """Refuse to load the tensors of a folder that has not passed its check. Threads may call this.

        Raises:
            UnknownKeyError: it has failed its check.
            UnavailableError: it was changed, and is checked first.
        """
        key = folder.manifest.binding.key
        if self._proven.get(key) != folder.manifest.digest:
            raise self._unknown(key) if key in self._failed else self._in_check(key)
        self._metrics.record_load()

    async def warm(self, key: KeyRef) -> None:
        """Bring the tensors of a key into memory while others run.

        Raises:
            LcveError, OSError: see ``KeyFolders.load``.
        """
        if key not in self._bank:
            await asyncio.get_running_loop().run_in_executor(self._readers, self._lease, key)

    def refusal(self, key: KeyRef, error: Exception) -> LcveError:
        """Note that the folder of a key could not be used, and return the error for the client."""
        if not isinstance(error, UnknownKeyError) and key in self._proven:
            del self._proven[key]
            if folder := self._folders.keys.get(key):
                self._fail(key, folder, error)
        return self._unknown(key)

    def inherit(self, previous: ServedKeys) -> None:
        """Take over what was proven with the same model in the same engine."""
        self._proven = dict(previous._proven)

    @property
    def hot(self) -> tuple[KeyRef, ...]:
        """Keys whose tensors are in memory."""
        return self._bank.keys()

    async def refresh(self, *, force: bool = False) -> None:
        """Look at the key folders: check what is new or changed, and refuse what is gone.

        Args:
            force: whether to check failed keys again without waiting.

        Raises:
            ArtifactError: there are too many key folders.
            OSError: the folder of the keys cannot be read.
        """
        names = {key: folder.folder.name for key, folder in self._folders.keys.items()}
        changes = await asyncio.get_running_loop().run_in_executor(self._readers, self._folders.refresh)
        for key in changes.gone:
            self._forget(key, names.get(key, ""))
        self._note_refused(dict(self._folders.refused))
        now = time.monotonic()
        for key, folder in self._folders.keys.items():
            if self._is_due(key, folder, now, force=force):
                self._pending[key] = None
        await self._notify()

    async def settle(self, wanted: Iterable[KeyRef] = ()) -> None:
        """Wait until keys have been checked: the wanted ones, or the first few.

        Args:
            wanted: keys that are checked first; those that are not installed are ignored.
        """
        keys = [key for key in wanted if key in self._pending]
        keys = keys or list(self._pending)[:_FIRST_KEYS]
        for key in reversed(keys):
            self._pending.move_to_end(key, last=False)
        self._wanted.update(keys)
        async with self._changed:
            await self._changed.wait_for(lambda: not any(key in self._pending or key == self._checking for key in keys))

    async def close(self) -> None:
        """End the checks."""
        self._worker.cancel()
        await asyncio.wait([self._worker])

    def _is_due(self, key: KeyRef, folder: KeyFolder, now: float, *, force: bool) -> bool:
        digest = folder.manifest.digest
        if self._proven.get(key) == digest or key == self._checking:
            return False
        failure = self._failed.get(key)
        return failure is None or force or failure.digest != digest or now >= failure.retry_at

    def _forget(self, key: KeyRef, name: str) -> None:
        self._proven.pop(key, None)
        self._failed.pop(key, None)
        self._pending.pop(key, None)
        self._wanted.discard(key)
        self._bank.forget(key)
        self._metrics.forget(name)
        _LOG.info("key removed", extra={"model": self._model, "key": name, "key_id": key.key_id})

    def _note_refused(self, refused: dict[str, str]) -> None:
        for name, reason in refused.items():
            if self._refused.get(name) != reason:
                _LOG.error("key refused", extra={"model": self._model, "key": name, "error": reason})
        self._refused = refused

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _work(self) -> None:
        """Check the pending keys, one after the other."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._pending))
            key, _ = self._pending.popitem(last=False)
            self._checking = key
            folder = self._folders.keys.get(key)
            if folder is not None:
                await self._check(key, folder)
            self._checking = None
            self._wanted.discard(key)
            if folder is not None and key in self._folders.keys and not self._is_current(key, folder):
                self._pending[key] = None  # it was changed during the check
            await self._notify()

    async def _check(self, key: KeyRef, folder: KeyFolder) -> None:
        loop, started, placed = asyncio.get_running_loop(), time.monotonic(), False
        try:
            tensors, probe = await loop.run_in_executor(self._readers, _read, folder)
            await self._in_background(lambda: self._prove_bounded(folder, tensors, probe))
            placed = self._is_current(key, folder) and (key in self._wanted or key in self._bank)
            if placed:
                await loop.run_in_executor(self._readers, self._bank.put, key, tensors)
        except UnavailableError:
            return  # the model is being closed
        except (LcveError, OSError) as error:
            if self._is_current(key, folder):
                self._fail(key, folder, error)
            return
        if not self._is_current(key, folder):
            if placed:
                self._bank.forget(key)
            return
        self._proven[key] = folder.manifest.digest
        self._failed.pop(key, None)
        self._seconds = time.monotonic() - started
        if placed:
            self._metrics.record_load()
        _LOG.info("key ready", extra={"model": self._model, "key": folder.folder.name, "key_id": key.key_id})

    def _is_current(self, key: KeyRef, folder: KeyFolder) -> bool:
        now = self._folders.keys.get(key)
        return now is not None and now.manifest.digest == folder.manifest.digest

    def _prove_bounded(self, folder: KeyFolder, tensors: Tensors, probe: Probe) -> None:
        with version_boundary(folder.folder):
            self._prove(tensors, probe)

    def _lease(self, key: KeyRef) -> None:
        with self._bank.lease([key]):
            pass

    def _fail(self, key: KeyRef, folder: KeyFolder, error: Exception) -> None:
        """Record and log a failure. Unchanged content is tried again with exponential backoff."""
        digest, reason, previous = folder.manifest.digest, str(error), self._failed.get(key)
        same = previous is not None and previous.digest == digest
        backoff = min(previous.backoff * 2, _MAX_BACKOFF) if previous and same else _MIN_BACKOFF
        self._failed[key] = _Failure(digest=digest, reason=reason, backoff=backoff, retry_at=time.monotonic() + backoff)
        if not (previous and same and previous.reason == reason):
            fields = {"model": self._model, "key": folder.folder.name, "key_id": key.key_id, "error": reason}
            _LOG.error("key not ready", extra=fields)

    def _in_check(self, key: KeyRef) -> UnavailableError:
        return UnavailableError(
            f"the key {key.key_id} is being checked", hint="try again shortly", retry_after=max(0.1, self._seconds)
        )

    def _unknown(self, key: KeyRef) -> UnknownKeyError:
        return UnknownKeyError(
            f"the model {self._model} has no key {key.key_id} with this salt",
            hint="ask the operator to copy the key folder to keys/ of the model; their log says if it was refused",
        )


def _read(folder: KeyFolder) -> tuple[Tensors, Probe]:
    with version_boundary(folder.folder):
        return folder.tensors(), folder.probe()
