"""What the tests in this folder share."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from lcve_deploy import Binding, EncryptedClip, Layout, RemoteOptions, RemoteSession
from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    LcveError,
    RateError,
    RequestError,
    SessionError,
    UnavailableError,
    UnknownModelError,
)
from tests.conftest import GEOMETRY
from tests.support import fake_server as fake
from tests.support.fake_server import GrpcServer, HttpServer

BINDING = Binding(scheme="lcve-1", key_id="a" * 32, salt="b" * 32, geometry=GEOMETRY, layout=Layout.CUBES)
QUICK = RemoteOptions(deadline=30, retries=2, pause=0.001, rest=0.001)
TOKEN = "mF_9.B5f-4.1JqM~planted/token+that=="
Server = GrpcServer | HttpServer


def clips(count: int = 1, *, seed: int = 0, binding: Binding = BINDING) -> EncryptedClip:
    shape = (count, *binding.layout.shape(binding.geometry))
    return EncryptedClip(values=np.random.default_rng(seed).integers(0, 256, shape, np.uint8), binding=binding)


def other(**changes: Any) -> Binding:
    return dataclasses.replace(BINDING, **changes)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def set_to(path: str, value: Any) -> fake.Change:
    """Sets ``inputs.0.name`` and the like."""

    def change(message: Any) -> None:
        *way, last = path.split(".")
        for part in way:
            message = message[int(part)] if part.isdigit() else getattr(message, part)
        if last == "add":
            message.add().CopyFrom(message[0])
        elif last == "clear":
            del message[:]
        elif last.isdigit():
            message[int(last)] = value
        else:
            setattr(message, last, value)

    return change


class Raw:
    """A listener that answers every request with fixed bytes."""

    def __init__(self, answer: bytes, then: Callable[[socket.socket], None] = lambda connection: None) -> None:
        self._then = then
        self._answer, self._listener = answer, socket.create_server(("127.0.0.1", 0))
        self.port, self.asked = self._listener.getsockname()[1], 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                self.asked += bool(connection.recv(65536))
                connection.sendall(self._answer)
                self._then(connection)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


STATUSES: dict[str, type[LcveError]] = {
    **dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"), RequestError),
    **dict.fromkeys(("ALREADY_EXISTS", "UNIMPLEMENTED"), RequestError),
    "NOT_FOUND": UnknownModelError,
    "RESOURCE_EXHAUSTED": RateError,
    **dict.fromkeys(("UNAUTHENTICATED", "PERMISSION_DENIED"), DeniedError),
    **dict.fromkeys(("UNAVAILABLE", "ABORTED", "CANCELLED"), UnavailableError),
    "DEADLINE_EXCEEDED": DeadlineError,
    **dict.fromkeys(("INTERNAL", "UNKNOWN", "DATA_LOSS", "", "OF_TOMORROW"), SessionError),
}


def but(session: RemoteSession, **options: Any) -> RemoteSession:
    """The same session, less patient."""
    changed = copy.copy(session)
    changed._options = dataclasses.replace(session._options, **options)
    return changed
