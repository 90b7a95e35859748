"""``lcve web`` as a process of its own, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.support.servers import request
from tests.support.warm import CLIENTS

__all__ = ["WebPage", "serving_page"]

_RUN = "import sys; from lcve_deploy.cli import lcve; lcve(sys.argv[1:])"
_END_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class WebPage:
    """A running ``lcve web``."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def ask(
        self, path: str, *, verb: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a request."""
        return request("127.0.0.1", self.port, verb, path, body, headers)

    def exchange(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the answer to a POST; names of headers in lower case."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(), {name.lower(): text for name, text in response.getheaders()}
        finally:
            connection.close()


@contextlib.contextmanager
def serving_page(*arguments: object) -> Iterator[WebPage]:
    """Run ``lcve web`` while the block runs, on any free port of loopback."""
    command = [*CLIENTS.command(_RUN), "web", *map(str, arguments), "--json", "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "lcve web did not start; its standard error says why"
            yield WebPage(process=process, url=json.loads(line)["url"])
        finally:
            process.terminate()
            process.wait(_END_SECONDS)
