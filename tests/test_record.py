"""JSON from outside: every wrong field is named with its place, and bounds are what they say."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.artifact.record import Record, parse_json, read_json
from lcve_deploy.errors import ArtifactError


class Size(StrEnum):
    SMALL = "small"


READERS: dict[str, tuple[Callable[[Record], object], list[tuple[Any, Any]], list[tuple[Any, str]]]] = {
    "text": (
        lambda r: r.text("x", "[a-z]{2}"),
        [("ab", "ab")],
        [("", "text like"), ("abc", "text like"), ("ab\n", "text like"), (1, "text"), (None, "text"), (True, "text")],
    ),
    "any text": (lambda r: r.text("x"), [("", ""), ("a\nb", "a\nb"), ("é", "é")], [(["a"], "text"), (1.5, "text")]),
    "whole number": (
        lambda r: r.integer("x"),
        [(1, 1), (2**40, 2**40)],
        [(0, "at least 1"), (-1, "at least 1"), (1.0, "a whole number"), (True, "a whole number"), ("1", "whole")],
    ),
    "whole number from zero": (lambda r: r.integer("x", 0), [(0, 0)], [(-1, "at least 0")]),
    "number": (
        lambda r: r.number("x"),
        [(0, 0.0), (0.5, 0.5), (7, 7.0), (sys.float_info.max, sys.float_info.max)],
        [(-1e-9, "at least 0"), (10**400, "a finite number"), (True, "a number"), ("1", "a number")],
    ),
    "list": (lambda r: r.items("x"), [([], []), ([1, None], [1, None])], [({}, "a list"), ("ab", "a list")]),
    "object": (lambda r: r.record("x").names(), [({}, ()), ({"a": 1}, ("a",))], [([], "an object"), (1, "an object")]),
    "parsed": (lambda r: r.parsed("x", Size), [("small", Size.SMALL)], [("large", "not a valid Size"), (1, "text")]),
}
RIGHT = [(name, value, expected) for name, (_, right, _) in READERS.items() for value, expected in right]
WRONG = [(name, value, message) for name, (_, _, wrong) in READERS.items() for value, message in wrong]


@pytest.mark.parametrize(("name", "value", "expected"), RIGHT)
def test_what_is_right_is_read(name: str, value: object, expected: object) -> None:
    record = Record({"x": value}, "", [])
    received = READERS[name][0](record)
    assert (received, type(received)) == (expected, type(expected))
    assert record.problems == []
    record.finish(Path("a.json"))


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_what_is_wrong_is_named_and_raised(name: str, value: object, message: str) -> None:
    problems: list[str] = []
    READERS[name][0](Record({"x": value}, "top.inner", problems))
    assert problems
    assert problems[0].startswith("top.inner.x: ")
    assert message in problems[0]
    with pytest.raises(ArtifactError, match=r"^a\.json is invalid: top\.inner\.x"):
        Record({}, "", problems).finish(Path("a.json"))


@pytest.mark.parametrize("name", READERS)
def test_what_is_missing_is_one_problem(name: str) -> None:
    record = Record({"y": 1}, "top", [])
    READERS[name][0](record)
    assert record.problems == ["top.x: missing"]
    assert not record.has("x")
    assert record.has("y")
    assert not Record({"y": None}, "", []).has("y")


def test_a_record_within_shares_the_problems_and_says_its_place() -> None:
    record = Record({"a": {"b": {"c": 1}}}, "", [])
    record.record("a").record("b").text("c")
    record.record("a").integer("b")
    assert [problem.split(":")[0] for problem in record.problems] == ["a.b.c", "a.b"]


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_the_top_is_an_object(value: object) -> None:
    assert Record(value, "", []).problems == [f"the top level: expected an object, received {json.dumps(value)}"]


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, "and 1 more"), (45, "and 25 more")])
def test_twenty_problems_are_shown(count: int, more: str) -> None:
    problems = [f"problem {i:02}" for i in range(count)]
    with pytest.raises(ArtifactError) as caught:
        Record({}, "", problems).finish(Path("a.json"), hint="do this")
    shown = str(caught.value).split("; ")
    assert shown[1:20] == problems[1:20]
    assert shown[20:] == ([more] if more else [])
    assert caught.value.hint == "do this"


def test_a_long_problem_is_cut() -> None:
    record = Record({"x": "y" * 1000}, "", [])
    record.text("x", "[a-z]{2}")
    assert record.problems[0].endswith('received "' + "y" * 79)
    with pytest.raises(ArtifactError) as caught:
        Record({}, "", ["z" * 301]).finish(Path("a.json"))
    assert str(caught.value).count("z") == 300


def test_no_json_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not JSON"):
        parse_json(b"{", Path("a.json"))
    with pytest.raises(ArtifactError, match=r"expected a\.json in .*, found none") as caught:
        read_json(tmp_path / "a.json")
    assert "lcve export" in caught.value.hint


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_missing_file_is_looked_for_in_both_sides(tmp_path: Path, side: str) -> None:
    (tmp_path / side).mkdir()
    (tmp_path / side / "a.json").write_text("{}")
    with pytest.raises(ArtifactError) as caught:
        read_json(tmp_path / "a.json")
    assert caught.value.hint == f"pass {tmp_path / side}"
