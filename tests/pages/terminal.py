"""A terminal as a stranger has one: bash in a folder, ``lcve`` on the path, servers in the background.

``lcve`` and ``python`` either start Python, or are forked from a process that has other libraries loaded, but not this
package; see ``tests/support/warm.py``. Folder and variables last from block to block. Servers listen on loopback, on
the ports that the pages name where these are free, else on others, which are put in their place in every block; they
are ended by their process ids.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conftest import heed_interrupts
from tests.pages.blocks import Block
from tests.support.warm import Warm

__all__ = ["BlockError", "Terminal", "terminal"]

REPOSITORY: Final = Path(__file__).parents[2]
PORTS: Final = {"--http-port": 8000, "--grpc-port": 8001, "--metrics-port": 8002}
SECONDS: Final = 300.0
"""A block that has not ended then never will."""

_WARM: Final = Warm(
    *("numpy", "click", "cloup", "cryptography.hazmat.primitives.serialization", "safetensors", "av"),
    *("torch", "onnx", "onnx_ir", "onnxruntime"),
    *("grpc", "google.protobuf", "tritonclient.grpc", "aiohttp", "prometheus_client"),
)
_AS_STARTED: Final = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which may be ignored where the tests were started
sys.path[:1] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
"""
"""What Python does as it starts with a program from elsewhere than a file."""
_LCVE: Final = "import sys; from lcve_deploy.cli import lcve; sys.argv[0] = 'lcve'; lcve()"
_BLOCK: Final = "import sys; exec(compile(sys.stdin.read(), '<stdin>', 'exec'), {'__name__': '__main__'})"

_STATE: Final = """
trap 'status=$?; export -p > {variables}; pwd > {folder}; exit $status' EXIT
set -e -o pipefail
source {variables}
cd "$(cat {folder})"
"""


class BlockError(AssertionError):
    """A block that failed, with what it printed."""


@dataclass(kw_only=True)
class Terminal:
    """See :func:`terminal`."""

    state: Path
    ports: dict[int, int]
    serve: str
    environment: dict[str, str]
    server: subprocess.Popen[bytes] | None = field(default=None)

    def run(self, block: Block) -> str:
        """Run a block to its end; returns what it printed on standard output."""
        done = subprocess.run(
            ["bash", "-c", self._script(block)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            env=self.environment,
            preexec_fn=heed_interrupts,
        )
        if done.returncode:
            raise BlockError(f"{block} ended with {done.returncode}:\n{block.text}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start(self, block: Block) -> str:
        """Start a server, once the one before it has ended; returns the addresses it prints."""
        self.end_server()
        printed, log = self.state / "server.out", self.state / "server.err"
        with printed.open("wb") as out, log.open("wb") as errors:
            self.server = subprocess.Popen(
                ["bash", "-c", self._script(block, "exec ")],
                stdout=out,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                preexec_fn=heed_interrupts,
            )
        end = time.monotonic() + SECONDS
        last = block.expected.strip().splitlines()[-1] if block.expected else "/metrics"  # address
        while last not in self._documented(printed.read_text()):
            if self.server.poll() is not None or time.monotonic() > end:
                raise BlockError(f"{block} does not serve:\n{block.text}\n{printed.read_text()}\n{log.read_text()}")
            time.sleep(0.05)
        return self._documented(printed.read_text())

    def end_server(self) -> None:
        """Ctrl-C in the server's terminal; it must end well."""
        if self.server is None:
            return
        self.server.send_signal(signal.SIGINT)
        status = self.server.wait(SECONDS)
        self.server = None
        if status:
            raise BlockError(f"a server ended with {status}:\n{(self.state / 'server.err').read_text()}")

    def go_to(self, folder: Path, *, forked: bool = False) -> None:
        """Begin a page: in that folder, without the variables of the page before.

        Args:
            forked: whether ``lcve`` and ``python`` are forked rather than started.
        """
        commands = self.state / ("forked" if forked else "started")
        if not commands.exists():
            _write_forked(commands, self.serve) if forked else _write_started(commands, self.serve)
        (self.state / "variables").write_text(f'export PATH={shlex.quote(str(commands))}:"$PATH"\n')
        (self.state / "folder").write_text(f"{folder}\n")

    @property
    def folder(self) -> Path:
        """Where the terminal is."""
        return Path((self.state / "folder").read_text().rstrip("\n"))

    def _script(self, block: Block, prefix: str = "") -> str:
        names = {name: shlex.quote(str(self.state / name)) for name in ("variables", "folder")}
        text = block.text if block.language == "bash" else f"python - <<'END'\n{block.text}END\n"
        for documented, free in self.ports.items():
            text = re.sub(rf":{documented}\b", f":{free}", text)
        return _STATE.format(**names) + prefix + text

    def _documented(self, text: str) -> str:
        for documented, free in self.ports.items():
            text = text.replace(f":{free}", f":{documented}")
        return text


@contextmanager
def terminal(state: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    """A terminal; its servers are ended when it is closed.

    Args:
        state: empty folder for what lasts from block to block.
        environment: variables that a stranger would not have, such as where the repository is.
    """
    ports = _ports()
    listen = " ".join(f"{name} {port}" for name, port in ports.items() if port != PORTS[name])
    opened = Terminal(
        state=state,
        ports={documented: ports[name] for name, documented in PORTS.items()},
        serve=f'case "$1" in serve) set -- "$@" {listen} ;; esac',
        environment={**os.environ, **environment},
    )
    try:
        yield opened
        opened.end_server()
    finally:
        if opened.server is not None:
            opened.server.kill()
            opened.server.wait()


def _write_started(folder: Path, serve: str) -> None:
    """``lcve`` and ``python`` as an installation of this checkout has them; ``serve`` adds the ports that are free."""
    python = shlex.quote(sys.executable)
    _write_commands(folder, lcve=f'{serve}\nexec {python} -c "{_LCVE}" "$@"', python=f'exec {python} "$@"')


def _write_forked(folder: Path, serve: str) -> None:
    """The same, forked from one process. Started all the same: Ray's driver, and modules such as pytest."""
    python = shlex.quote(sys.executable)
    lcve, block = (shlex.join(_WARM.command(_AS_STARTED + code)) for code in (_LCVE, _BLOCK))
    _write_commands(
        folder,
        lcve=f'{serve}\ncase "$1" in batch) exec {python} -c "{_LCVE}" "$@" ;; *) exec {lcve} "$@" ;; esac',
        python=f'case "$*" in -) exec {block} ;; *) exec {python} "$@" ;; esac',
    )


def _write_commands(folder: Path, **commands: str) -> None:
    folder.mkdir()
    for name, text in commands.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)


def _ports() -> dict[str, int]:
    """The documented ports where all are free, else three that are."""
    return dict(PORTS) if all(_free(port) for port in PORTS.values()) else dict(zip(PORTS, _three(), strict=True))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _three() -> list[int]:
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for probe in (a, b, c):
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in (a, b, c)]
