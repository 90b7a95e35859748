"""Long arrays of integers in JSON: the same values as Python's parser gives, in bounded memory, or one error."""

from __future__ import annotations

import contextlib
import json
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest

from lcve_deploy.errors import RequestError, TooLargeError
from lcve_deploy.serving.http.json_arrays import MAX_OTHER_BYTES, _integers, parse_json
from lcve_deploy.serving.http.messages import parse_object

VALUES = np.random.default_rng(0).integers(0, 256, (3, 40, 50))
START = "[" + ",".join(["1"] * 1000)


def body(data: str) -> bytes:
    return f'{{"inputs": [{{"name": "clips", "data": {data}}}], "id": "[1,2]"}}'.encode()


@pytest.mark.parametrize("shape", [(3, 40, 50), (6000,), (3, 2000, 1), (1, 1, 6000)])
@pytest.mark.parametrize("style", [{}, {"separators": (",", ":")}, {"indent": 3}], ids=["plain", "compact", "indented"])
def test_values_are_those_of_the_text(shape: tuple[int, ...], style: dict[str, Any]) -> None:
    value = parse_json(body(json.dumps(VALUES.reshape(shape).tolist(), **style)))
    (tensor,) = value["inputs"]
    np.testing.assert_array_equal(tensor["data"], VALUES.reshape(-1))
    assert tensor["data"].dtype == np.uint8
    assert value["id"] == "[1,2]"


def test_a_long_array_within_a_string_is_text() -> None:
    value = parse_json(json.dumps({"id": START + ']", "x": [', "inputs": []}).encode())
    assert value["id"] == START + ']", "x": ['


@pytest.mark.parametrize("end", [",]", ",01]", ", 2 3]", ",[1]]", "]]", ",,1]", ",256]", ",-1]", ",1.5]", ",true]", ""])
def test_what_is_no_array_of_bytes_is_one_error(end: str) -> None:
    with pytest.raises(RequestError, match="integers from 0 to 255"):
        parse_object(body(START + end))


def test_a_value_of_many_digits_is_above_255() -> None:
    with pytest.raises(RequestError, match="integers from 0 to 255"):
        parse_object(body(START + "," + "9" * 5000 + "]"))


def test_an_array_elsewhere_is_no_tensor() -> None:
    value = parse_object(f'{{"inputs": [{{"shape": {START}]}}], "parameters": {START}]}}'.encode())
    assert isinstance(value["parameters"], list)
    assert isinstance(value["inputs"][0]["shape"][0], str)


def test_texts_at_random_are_taken_as_python_takes_them_or_refused() -> None:
    draw = random.Random(0)  # noqa: S311
    accepted = 0
    for _ in range(5000):
        text = "[" + "".join(draw.choice("[],01 9") for _ in range(draw.randrange(1, 14)))
        try:
            values = _integers(text.encode())
        except RequestError:
            continue
        accepted += 1
        np.testing.assert_array_equal(values, np.array(json.loads(text)).reshape(-1))
    assert accepted > 20


@pytest.mark.parametrize(
    "data",
    [
        "[" * 4_000_000,
        "[" * 2_000_000 + "1" + "]" * 2_000_000,
        "[" + ",".join(["[[7]]"] * 700_000) + "]",
        '"' + '\\"' * 2_000_000 + '"',
        "[" + ",".join(['""'] * 1_000_000) + "]",
        "[" + ",".join(["1.5"] * 1_000_000) + "]",
    ],
    ids=["open", "deep", "nested", "escapes", "texts", "fractions"],
)
def test_no_text_uses_much_more_than_its_size(data: str) -> None:
    text = body(data)
    tracemalloc.start()
    try:
        with contextlib.suppress(RequestError):
            parse_object(text)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(text)
    finally:
        tracemalloc.stop()


def test_other_json_is_short() -> None:
    with pytest.raises(TooLargeError, match="in addition to arrays"):
        parse_object(body('"' + "a" * MAX_OTHER_BYTES + '"'))
