"""A small model hub on loopback: what ``huggingface_hub`` asks for, and a record of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

__all__ = ["COMMIT", "FakeHub", "serving"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Models by their names, each with files by theirs; all have one commit."""

    models: dict[str, dict[str, bytes]]
    address: str = ""
    asked: list[str] = field(default_factory=list)
    """Files that were read."""

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._about("/".join(parts[2:4]), parts[4:])
        return self._file(method, "/".join(parts[:2]), parts[3:])

    def _about(self, name: str, rest: list[str]) -> tuple[int, dict[str, str], bytes]:
        files = self.models.get(name)
        if files is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if rest[1:] and rest[1] not in ("main", "v1", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if rest[:1] == ["tree"]:
            listed = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}  # noqa: S324
                for path, data in files.items()
            ]
            return 200, {}, json.dumps(listed).encode()
        about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
        return 200, {}, json.dumps(about).encode()

    def _file(self, method: str, name: str, rest: list[str]) -> tuple[int, dict[str, str], bytes]:
        data = self.models.get(name, {}).get("/".join(rest[1:]))
        if data is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        if method == "GET":
            self.asked.append("/".join(rest[1:]))
        return 200, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}, data


@contextlib.contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub at a free port of loopback, for as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._reply("HEAD")

        def do_GET(self) -> None:
            self._reply("GET")

        def _reply(self, method: str) -> None:
            status, headers, body = hub.answer(method, self.path)
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if method == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
