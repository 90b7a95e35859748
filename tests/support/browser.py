"""A real Chromium, for tests of the page of ``lcve web``; without it they are skipped.

With ``LCVE_REQUIRE_CHROMIUM=1``, a missing Chromium is a failure. ``LCVE_CHROMIUM`` names another one than that of the
system.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

from tests.support.node import CLIENT, require_node

__all__ = ["Browser", "BrowserError", "require_chromium"]

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def require_chromium() -> str:
    """Return the path of Chromium, or skip the test."""
    named = os.environ.get("LCVE_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None)
    problem = "" if found else "Chromium is not installed (Debian: apt-get install chromium)"
    if not (CLIENT / "node_modules/playwright-core").exists():
        problem = "playwright-core is not installed: npm ci --prefix clients/js"
    if found and not problem:
        return found
    if os.environ.get("LCVE_REQUIRE_CHROMIUM"):
        pytest.fail(f"LCVE_REQUIRE_CHROMIUM is set, and {problem}")
    pytest.skip(problem)


class BrowserError(Exception):
    """Something did not happen on the page."""


class Browser:
    """One page in a Chromium. A context manager."""

    def __init__(self) -> None:
        command = [require_node(), str(CLIENT / "test/browser.js"), require_chromium()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        """Id of the process that starts Chromium."""
        return self._process.pid

    def open(self, url: str, *, camera: Path | None = None, axe: bool = False, keep: bool = True) -> None:
        """Open a page in a fresh browser.

        Args:
            url: its address.
            camera: Y4M or MJPEG file that is the camera.
            axe: whether to load axe, which the policy of the page would refuse.
            keep: whether requests are kept with their bodies.
        """
        self._order("open", url=url, axe=axe, keep=keep, **({"camera": str(camera)} if camera else {}))

    def files(self, selector: str, *paths: Path) -> None:
        """Choose files in an input."""
        self._order("files", selector=selector, paths=[str(path) for path in paths])

    def click(self, selector: str) -> None:
        self._order("click", selector=selector)

    def press(self, key: str) -> None:
        self._order("press", key=key)

    def evaluate(self, code: str, value: Any = None) -> Any:
        """Call a function of JavaScript on the page."""
        return self._order("evaluate", code=code, value=value)

    def wait(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true."""
        self._order("wait", code=condition)

    def text(self, selector: str) -> str:
        """The text of an element."""
        text = self.evaluate("(selector) => document.querySelector(selector).textContent", selector)
        return " ".join(text.split())

    def rows(self, table: str) -> list[list[str]]:
        """The texts of the cells of a table's body."""
        code = """(name) => Array.from(document.querySelector(name).tBodies[0].rows,
            (row) => Array.from(row.cells, (cell) => cell.textContent))"""
        rows: list[list[str]] = self.evaluate(code, table)
        return rows

    def download(self, selector: str, path: Path) -> None:
        """Click what downloads a file, and keep it."""
        self._order("download", selector=selector, path=str(path))

    def screenshot(self, path: Path, selector: str = "") -> None:
        self._order("screenshot", path=str(path), **({"selector": selector} if selector else {}))

    def media(self, **features: str) -> None:
        """Prefer ``colorScheme="dark"`` or ``reducedMotion="reduce"``."""
        self._order("media", **features)

    def size(self, width: int, height: int) -> None:
        self._order("size", width=width, height=height)

    def axe(self) -> list[str]:
        """What axe finds."""
        found: list[str] = self._order("axe")
        return found

    @property
    def requests(self) -> list[dict[str, str]]:
        """Method, address and content (headers, and the body in base64) of all requests of the page and its workers."""
        requests: list[dict[str, str]] = self._order("seen")["requests"]
        return requests

    @property
    def console(self) -> list[str]:
        """What the page wrote to its console, and its uncaught errors."""
        lines: list[str] = self._order("seen")["console"]
        return lines

    def _order(self, order: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"order": order, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BrowserError("the browser ended; its standard error says why")
        answer = json.loads(line)
        if "error" in answer:
            raise BrowserError(answer["error"])
        return answer["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
