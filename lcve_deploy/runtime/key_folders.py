"""The key folders of a model folder: which keys there are, and the tensors of each, read when they are needed.

A folder that is damaged, is not signed by the pinned key, or was made for another model is refused alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import Manifest, PublicKey
from lcve_deploy.artifact.key_folder import KeyFolder, find_keys, open_key
from lcve_deploy.artifact.names import KEYS
from lcve_deploy.clips import KeyRef
from lcve_deploy.errors import ArtifactError, MismatchError, SignatureError, UnknownKeyError
from lcve_deploy.runtime.bank import Tensors

__all__ = ["KeyChanges", "KeyFolders"]

_SETTLED_SECONDS: Final = 2.0
"""Age of a change after which the clock of any file system tells the next change from it."""

_REFUSALS: Final = (ArtifactError, SignatureError, MismatchError, OSError)

_Stamp = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class KeyChanges:
    """What a look at the key folders has found since the look before.

    Args:
        added: keys that are new.
        changed: keys whose folders have other content.
        gone: keys that are no longer there, or whose folders are now refused.
    """

    added: frozenset[KeyRef] = frozenset()
    changed: frozenset[KeyRef] = frozenset()
    gone: frozenset[KeyRef] = frozenset()

    @property
    def stale(self) -> frozenset[KeyRef]:
        """Keys whose tensors must not be used as they were."""
        return self.changed | self.gone


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A folder as it was read: a key folder, or why it is none."""

    folder: KeyFolder | None
    problem: str
    stamp: _Stamp | None


@dataclass(frozen=True, kw_only=True)
class _Index:
    keys: Mapping[KeyRef, KeyFolder] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, _Seen] = field(default_factory=dict)


class KeyFolders:
    """Key folders by the keys that they are for. Threads may share it.

    Args:
        server: the model folder, whose ``keys/`` has the key folders.
        manifest: of the model, as it was read and checked.
        signed_by: the owner's public key, if pinned; it must have signed every key folder too.
    """

    def __init__(self, server: Path, manifest: Manifest, signed_by: PublicKey | None = None) -> None:
        self._server, self._manifest, self._signed_by = server, manifest, signed_by
        self._lock, self._index = threading.Lock(), _Index()
        self.admit: Callable[[KeyFolder], None] = _admit_all
        """Called with a folder before its tensors are loaded; raises to refuse it."""
        self.refresh()

    @property
    def keys(self) -> Mapping[KeyRef, KeyFolder]:
        """The key folders that are in order, by their keys; their tensors have not been read."""
        return self._index.keys

    @property
    def refused(self) -> Mapping[str, str]:
        """Why a folder is refused, by its name."""
        return self._index.refused

    def refresh(self) -> KeyChanges:
        """Look at the folders again. Only those whose files have changed are read."""
        with self._lock:
            before, self._index = self._index, self._look(self._index.seen)
            return _changes(before.keys, self._index.keys)

    def load(self, key: KeyRef) -> Tensors:
        """Read and check the tensors of a key.

        Raises:
            UnknownKeyError: no folder is for it.
            ArtifactError, SignatureError, MismatchError: its folder is damaged, unsigned, or for another model.
            LcveError: as ``admit`` raises it.
        """
        known = self._index.keys.get(key)
        if known is None:
            raise self._unknown(key)
        folder = open_key(known.folder, self._manifest, self._signed_by)  # it may have been replaced since
        if folder.manifest.binding.key != key:
            raise self._unknown(key)
        self.admit(folder)
        return folder.tensors()

    def _unknown(self, key: KeyRef) -> UnknownKeyError:
        return UnknownKeyError(
            f"there is no key {key} here", hint=f"copy its key folder to {self._server / KEYS}/, or use another key"
        )

    def _look(self, before: Mapping[str, _Seen]) -> _Index:
        keys: dict[KeyRef, KeyFolder] = {}
        refused: dict[str, str] = {}
        seen = {name: self._see(path, before.get(name)) for name, path in sorted(find_keys(self._server).items())}
        for name, entry in seen.items():
            if entry.folder is None:
                refused[name] = entry.problem
            elif (other := keys.get(entry.folder.manifest.binding.key)) is not None:
                refused[name] = f"it is for the same key as {other.folder.name}: remove one of them"
            else:
                keys[entry.folder.manifest.binding.key] = entry.folder
        return _Index(keys=keys, refused=refused, seen=seen)

    def _see(self, path: Path, before: _Seen | None) -> _Seen:
        stamp = _stamp(path)
        if before is not None and stamp is not None and before.stamp == stamp:
            return before
        try:
            return _Seen(folder=open_key(path, self._manifest, self._signed_by), problem="", stamp=stamp)
        except _REFUSALS as error:
            return _Seen(folder=None, problem=str(error), stamp=stamp)


def _admit_all(folder: KeyFolder) -> None:
    """Accept every folder that is in order."""


def _changes(before: Mapping[KeyRef, KeyFolder], after: Mapping[KeyRef, KeyFolder]) -> KeyChanges:
    both = before.keys() & after.keys()
    return KeyChanges(
        added=frozenset(after.keys() - before.keys()),
        changed=frozenset(key for key in both if before[key].manifest.digest != after[key].manifest.digest),
        gone=frozenset(before.keys() - after.keys()),
    )


def _stamp(folder: Path) -> _Stamp | None:
    """Return what changes whenever a file of the folder does; None if a file has changed too recently to tell."""
    try:
        found = tuple(sorted(_file_stamps(folder)))
    except OSError:
        return None
    newest = max((changed for *_, changed in found), default=0)
    return found if newest < time.time_ns() - int(_SETTLED_SECONDS * 1e9) else None


def _file_stamps(folder: Path) -> Iterator[tuple[str, int, int, int, int]]:
    for file in folder.iterdir():
        status = file.stat()
        yield file.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
