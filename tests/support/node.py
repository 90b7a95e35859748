"""Node, for tests of ``clients/js/``; without Node 20.12 or newer they are skipped.

With ``LCVE_REQUIRE_NODE=1``, a missing Node is a failure.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

__all__ = ["CLIENT", "JavaScriptClient", "JavaScriptError", "require_node"]

CLIENT: Final = Path(__file__).parents[2] / "clients/js"
_MIN_VERSION: Final = (20, 12)


def require_node() -> str:
    """Return the path of Node, or skip the test."""
    beside_python = Path(sys.executable).parent
    node = shutil.which("node") or shutil.which("node", path=str(beside_python))
    problem = "Node is not installed" if node is None else _too_old(node)
    if not problem and node is not None:
        return node
    if os.environ.get("LCVE_REQUIRE_NODE"):
        pytest.fail(f"{problem}, and LCVE_REQUIRE_NODE is set")
    pytest.skip(f"clients/js needs Node 20.12: {problem}")


def _too_old(node: str) -> str:
    version = subprocess.check_output([node, "--version"], text=True).strip()
    return "" if tuple(map(int, version.removeprefix("v").split(".")[:2])) >= _MIN_VERSION else f"{node} is {version}"


class JavaScriptError(Exception):
    """The client refused.

    Args:
        kind: name of its error class.
        message: its message.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class JavaScriptClient:
    """``clients/js/`` in one process of Node, called as a function. A context manager."""

    def __init__(self) -> None:
        command = [require_node(), str(CLIENT / "test/exchange.js")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, function: str, /, **arguments: bytes | str | float) -> Any:
        """Call a function of ``test/exchange.js``; bytes travel in base64.

        Raises:
            JavaScriptError: the client refused.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        text = {
            key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for key, value in arguments.items()
        }
        self._process.stdin.write(json.dumps({"call": function, **text}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client ended; its standard error says why"
        answer = json.loads(line)
        if "error" in answer:
            raise JavaScriptError(answer["error"], answer["message"])
        return answer["result"]

    def call_for_bytes(self, function: str, /, **arguments: bytes | str | float) -> bytes:
        """Call a function that returns bytes."""
        return base64.b64decode(self.call(function, **arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
