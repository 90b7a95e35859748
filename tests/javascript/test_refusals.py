"""Files that Python refuses, ``clients/js/`` refuses too, and the other way round."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lcve_deploy import SecurityKey
from lcve_deploy.artifact import read_client
from lcve_deploy.clipfile import read_clip_file
from lcve_deploy.errors import LcveError
from tests.conftest import SALT, SECRET
from tests.support.node import JavaScriptClient, JavaScriptError

KEY: Final = SecurityKey(SECRET)
BINDING: Final[dict[str, Any]] = {
    "scheme": "lcve-1",
    "key_id": KEY.key_id,
    "salt": SALT.hex(),
    "geometry": "2x4x6x3/1x2x2",
    "layout": "cubes",
}
SETTINGS: Final[dict[str, Any]] = {
    "format": 2,
    **BINDING,
    "classes": ["a", "b"],
    "problem_type": "single_label_classification",
    "labels": "hidden",
    "preprocess": {
        "frames": 2,
        "stride": 4,
        "sampling": "kinetics",
        "short_side": 8,
        "size": None,
        "resample": "bilinear",
        "crop": [4, 6],
        "crop_rounding": "nearest",
        "channel_order": "rgb",
    },
    "manifest_sha256": "0" * 64,
    "source": None,
    "assumptions": [{"fact": "heads", "value": "3", "option": "--num-heads"}],
    "checkpoint": {"form": "file", "options": {"--num-heads": "3"}},
}
HEADER: Final[dict[str, Any]] = {
    "__metadata__": {**BINDING, "views": "1x1"},
    "clip": {"dtype": "U8", "shape": [1, 12, 12], "data_offsets": [0, 144]},
}
VALUES: Final = bytes(range(144))
WRONG: Final[tuple[Any, ...]] = (
    *(None, True, 0, 1, 2, -1, 2.0, 0.5, 8192, 8193, 10**30, "", "a", "1", "1x1", "2x1", "0x1", "10000x1", [], {}),
    *("\n", "lcve-1\n", "é", "lcve-2", "video", "shown", "hidden ", "regression", "multi_label_classification"),
    *("2x4x6x3/1x2x2 ", "2x4x6x3/1x2x3", "02x4x6x3/1x2x2", "2x4x6x0/1x2x2", "2x4x6x3/1x4x2", "2x4x6x3/3x2x2"),
    *("16385x1x1x1/1x1x1", "128x1024x1024x2/1x1024x1024", "128x1024x1x2/1x1x1", KEY.key_id.upper(), "0" * 63),
    *(["a"], ["a", 1], [4, 6], [6, 4], [4, 6, 1], [4.0, 6], [0, 144], [0, 144.0], [1, 145], [0, 0], [1, 12, 12]),
    *([12, 12], [2, 6, 12], [1, 2, 4, 6, 3], [{"fact": "heads"}], [{"fact": "x", "value": "", "option": ""}], [1]),
    *("org/name@" + "0" * 40, "org/name@" + "0" * 39, "uniform", "nearest", "lanczos", "box", "down", "bgr", "F32"),
)
"""Values for any field."""

shared_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)


def paths(value: Any, start: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all fields of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for name, member in inner for path in [(*start, name), *paths(member, (*start, name))]]


def changes(record: dict[str, Any], path: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Copies without a field, and with every wrong value in its place."""
    return [changed(record, path, drop=True), *(changed(record, path, value) for value in WRONG)]


def changed(record: dict[str, Any], path: tuple[Any, ...], value: Any = None, *, drop: bool = False) -> dict[str, Any]:
    """A copy in which one field is dropped or has another value."""
    copied = copy.deepcopy(record)
    parent: Any = copied
    for name in path[:-1]:
        parent = parent[name]
    if drop:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return copied


def clip_file(header: dict[str, Any] | bytes, values: bytes = VALUES) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def python_accepts(read: Callable[[Path], object], path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        read(path)
    except LcveError:
        return False
    return True


def javascript_accepts(javascript: JavaScriptClient, function: str, **data: bytes) -> bool:
    try:
        javascript.call(function, **data)
    except JavaScriptError:
        return False
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("refusals")


def agree_on_settings(javascript: JavaScriptClient, folder: Path, data: bytes) -> bool:
    expected = python_accepts(lambda path: read_client(path.parent), folder / "client.json", data)
    assert javascript_accepts(javascript, "settings", settings=data) is expected
    return expected


def agree_on_clip(javascript: JavaScriptClient, folder: Path, data: bytes) -> bool:
    expected = python_accepts(read_clip_file, folder / "a.lcve", data)
    assert javascript_accepts(javascript, "clip", file=data) is expected
    return expected


def test_both_accept_what_is_right(javascript: JavaScriptClient, folder: Path) -> None:
    assert agree_on_settings(javascript, folder, json.dumps(SETTINGS, indent=2).encode())
    assert agree_on_clip(javascript, folder, clip_file(HEADER))
    assert agree_on_clip(javascript, folder, clip_file(dict(reversed(HEADER.items()))))


@pytest.mark.parametrize("path", paths(SETTINGS), ids=str)
def test_client_settings(javascript: JavaScriptClient, folder: Path, path: tuple[Any, ...]) -> None:
    for record in changes(SETTINGS, path):
        agree_on_settings(javascript, folder, json.dumps(record).encode())


@pytest.mark.parametrize("path", paths(HEADER), ids=str)
def test_headers_of_clip_files(javascript: JavaScriptClient, folder: Path, path: tuple[Any, ...]) -> None:
    for record in changes(HEADER, path):
        agree_on_clip(javascript, folder, clip_file(record))


def test_the_changes_are_of_both_kinds(javascript: JavaScriptClient, folder: Path) -> None:
    """Else the comparisons above would say nothing."""
    places: list[tuple[Any, ...]] = [("source",), ("problem_type",), ("preprocess", "stride"), ("preprocess", "crop")]
    outcomes = [
        {agree_on_settings(javascript, folder, json.dumps(record).encode()) for record in changes(SETTINGS, path)}
        for path in places
    ]
    assert outcomes == [{True, False}] * len(places)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        bytes(8),
        b"LCVEKEY1" + bytes(40),
        b"\xff" * 64,
        clip_file(HEADER)[:-1],
        clip_file(HEADER) + b"\0",
        clip_file(b""),
        clip_file(b"{}"),
        clip_file(b"[]"),
        clip_file(b"{" * 200),
        clip_file(b"[" * 100_000),
        clip_file(json.dumps(HEADER).encode() + b" x"),
        clip_file(json.dumps(HEADER).encode().replace(b"lcve-1", b"lcve-\xff")),
        clip_file(json.dumps(HEADER).encode().replace(b"lcve-1", b"\\ud800")),
        clip_file(json.dumps({**HEADER, "more": HEADER["clip"]}).encode()),
        clip_file(json.dumps(HEADER).encode().replace(b'"dtype"', b'"dtype": "F32", "dtype"')),
        clip_file(json.dumps(HEADER).encode().replace(b'"__metadata__"', b'"__metadata__": {}, "__metadata__"')),
        clip_file(json.dumps(HEADER).encode().replace(b'"dtype"', b'"more": 1e400, "dtype"')),
        clip_file(json.dumps(HEADER).encode().replace(b'"dtype"', b'"more": NaN, "dtype"')),
        clip_file(json.dumps(HEADER).encode().replace(b"[0, 144]", b"[-0, 144]")),
        clip_file(b"\xef\xbb\xbf" + json.dumps(HEADER).encode()),
        clip_file(b'{"clip": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}', b""),
    ],
    ids=lambda data: repr(data[:16]) + str(len(data)),
)
def test_other_files_are_refused_as_clips(javascript: JavaScriptClient, folder: Path, data: bytes) -> None:
    assert not agree_on_clip(javascript, folder, data)


@pytest.mark.parametrize(
    ("function", "data"),
    [
        ("settings", json.dumps(SETTINGS).encode("utf-16")),
        ("settings", json.dumps({**SETTINGS, "more": float("nan")}).encode()),
        ("clip", clip_file(json.dumps(HEADER).encode().replace(b'"clip"', b'"clip": {"dtype": "U8"}, "clip"'))),
        ("clip", clip_file(json.dumps(HEADER).encode().replace(b'"scheme"', b'"scheme": "x", "scheme"'))),
    ],
)
def test_what_only_javascript_refuses(javascript: JavaScriptClient, function: str, data: bytes) -> None:
    """As its README says."""
    with pytest.raises(JavaScriptError, match=r"not UTF-8|JSON|twice"):
        javascript.call(function, **{"settings" if function == "settings" else "file": data})


def deep(levels: int) -> bytes:
    return json.dumps(SETTINGS).encode()[:-1] + b', "more": ' + b"[" * levels + b"1" + b"]" * levels + b"}"


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        (b"", False),
        (b"{", False),
        (b"[]", False),
        (b"null", False),
        (b'{"format": 2}', False),
        (json.dumps(SETTINGS).encode() + b"}", False),
        (json.dumps(SETTINGS).encode().replace(b'"a"', b'"\\ud800"'), False),
        (json.dumps(SETTINGS).encode().replace(b'"a"', b'"\\ud83d\\ude00"'), True),
        (json.dumps(SETTINGS).encode().replace(b'"a"', b'"\xff"'), False),
        (json.dumps(SETTINGS).encode().replace(b'"a"', b'"\n"'), False),
        (json.dumps(SETTINGS).encode().replace(b'"a"', b'"__proto__"'), True),
        (json.dumps({"__proto__": SETTINGS}).encode(), False),
        (b"\xef\xbb\xbf" + json.dumps(SETTINGS).encode(), True),
        (json.dumps({**SETTINGS, "unknown": [1.5e300, {}]}).encode(), True),
        (json.dumps(SETTINGS).encode().replace(b"{", b'{"format": 3,', 1), True),
        (deep(63), True),
        (deep(64), False),
        (deep(100_000), False),
        (b" " * (8 * 2**20) + json.dumps(SETTINGS).encode(), False),
    ],
    ids=lambda value: repr(value[-24:]) + str(len(value)) if isinstance(value, bytes) else str(value),
)
def test_json_from_outside(javascript: JavaScriptClient, folder: Path, data: bytes, accepted: bool) -> None:
    assert agree_on_settings(javascript, folder, data) is accepted


@shared_fixture
@given(st.integers(0, 47), st.integers(0, 255), st.integers(0, 60))
def test_key_files(javascript: JavaScriptClient, place: int, byte: int, length: int) -> None:
    data = bytearray(KEY.to_bytes() + bytes(20))
    data[place] = byte
    for candidate in (bytes(data[:length]), bytes(data[:48])):
        assert javascript_says(javascript, candidate) == python_says(candidate)


def python_says(data: bytes) -> str:
    """Id of a key file, or the message of its refusal."""
    try:
        return SecurityKey.from_bytes(data).key_id
    except LcveError as error:
        return str(error)


def javascript_says(javascript: JavaScriptClient, data: bytes) -> str:
    try:
        return str(javascript.call("key", key=data))
    except JavaScriptError as error:
        return str(error)
