"""What a worker keeps open: one model here, or connections to a server, and the client of each key in use."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import Final

from lcve_deploy.client import Client
from lcve_deploy.runtime import Session
from lcve_deploy.runtime.opening import open_session
from lcve_deploy.verbs.batch.job import Job
from lcve_deploy.verbs.classify import Classifier

__all__ = ["OpenedKeys"]

_MAX_OPEN: Final = 16
"""Keys that are kept open; those used last. Opening one takes milliseconds here, and a connection at a server."""


class OpenedKeys:
    """Clients and classifiers by the name of the key. The model itself is opened once, for all keys.

    Args:
        job: what to do.
        threads: CPU threads of one inference; None for the default of the engine.

    Raises:
        LcveError: the model cannot be opened, or the only key of the job.
    """

    def __init__(self, job: Job, threads: int | None) -> None:
        self._job = job
        self._classifiers = OrderedDict[str, Classifier]()
        self._clients = OrderedDict[str, Client]()
        self._session = self._open_session(threads)
        if job.enrolled is None:
            _ = self.client("") if job.encrypt_only else self.classifier("")

    def _open_session(self, threads: int | None) -> Session | None:
        job = self._job
        if job.artifact is None or job.encrypt_only:
            return None
        return open_session(job.artifact / "server", dataclasses.replace(job.session, threads=threads))

    def client(self, name: str) -> Client:
        """Return the client of a key.

        Raises:
            LcveError, OSError: it cannot be opened.
        """
        if name not in self._clients:
            self._clients[name] = self._job.open_client(name)
        self._clients.move_to_end(name)
        if len(self._clients) > _MAX_OPEN:
            self._clients.popitem(last=False)
        return self._clients[name]

    def classifier(self, name: str) -> Classifier:
        """Return what classifies videos under a key.

        Raises:
            LcveError, OSError: it cannot be opened.
        """
        if name not in self._classifiers:
            self._classifiers[name] = self._open_classifier(name)
        self._classifiers.move_to_end(name)
        if len(self._classifiers) > _MAX_OPEN:
            self._classifiers.popitem(last=False)[1].close()
        return self._classifiers[name]

    def _open_classifier(self, name: str) -> Classifier:
        if self._session is not None:
            return Classifier(self.client(name), self._session)
        key, folder = self._job.key_of(name)
        job = self._job
        return Classifier.open(str(job.server), key=key, client=folder, remote=job.remote, step=job.step)
