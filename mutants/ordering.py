"""Which tests run a line, so that those run first when the line is mutated; the others follow."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

__all__ = ["LinesFirst", "Order", "Recorder"]

_RECORD: Final = Path("tests-by-line.json")
_FAILED: Final = Path("failed-test.txt")


class Recorder:
    """A plugin of pytest that writes which tests run which lines of one module, quickest first.

    Only lines that run in the process of the tests are seen, and a fixture of several tests counts for the first.
    """

    def __init__(self, module: Path) -> None:
        self._module = str(module.resolve())
        self._tests: dict[str, set[int]] = {}
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Trace one test with its fixtures."""
        lines = self._tests.setdefault(item.nodeid, set())

        def on_line(frame: FrameType, event: str, _argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return on_line

        def on_call(frame: FrameType, event: str, _argument: Any) -> Any:
            return on_line(frame, event, None) if frame.f_code.co_filename == self._module else None

        threading.settrace(on_call)
        sys.settrace(on_call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep how long a test takes without its fixtures."""
        if report.when == "call":
            self._seconds[report.nodeid] = report.duration

    def pytest_sessionfinish(self) -> None:
        """Write the record."""
        quickest = sorted(self._tests, key=lambda test: self._seconds.get(test, 0.0))
        lines = sorted(set().union(*self._tests.values()))
        record = {line: [test for test in quickest if line in self._tests[test]] for line in lines}
        _RECORD.write_text(json.dumps(record))


class LinesFirst:
    """A plugin of pytest that runs some tests before all others, and writes which one fails."""

    def __init__(self, first: Sequence[str]) -> None:
        self._places = {test: place for place, test in enumerate(first)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put them first, in their order."""
        items.sort(key=lambda item: self._places.get(item.nodeid, len(self._places)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the name of a test that fails."""
        if report.failed:
            _FAILED.write_text(report.nodeid)


class Order:
    """The order of tests for each line: those that run it, those that have killed most first, then the quickest."""

    def __init__(self) -> None:
        lines: dict[str, list[str]] = json.loads(_RECORD.read_text())
        self._tests = {int(line): tests for line, tests in lines.items()}
        self._kills = Counter[str]()

    def first_for(self, line: int) -> list[str]:
        """The tests that run a line; those of the line before if it has none of its own."""
        before = [seen for seen in self._tests if seen <= line]
        tests = self._tests[max(before)] if before else []
        return sorted(tests, key=lambda test: -self._kills[test])

    def learn(self) -> None:
        """Count what the last run has killed."""
        if _FAILED.is_file():
            self._kills[_FAILED.read_text()] += 1
            _FAILED.unlink()
