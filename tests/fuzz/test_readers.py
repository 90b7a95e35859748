"""All readers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, seeds
from lcve_deploy.errors import LcveError
from tests.fuzz.helpers import (
    read,
)


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.integers(0, 99), steps=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4))
def test_a_changed_file_is_read_or_refused(name: str, at: int, steps: list[int]) -> None:
    kept = [path for path in seeds(name) if path.name.startswith("seed-")]
    data = kept[at % len(kept)].read_bytes()
    for step in steps:
        data = TARGETS[name].mutate(data, random.Random(step))  # noqa: S311
    read(name, data)


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None, max_examples=20)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    read(name, data)


@pytest.mark.parametrize("path", [path for name in TARGETS for path in seeds(name)], ids=lambda path: path.name)
def test_kept_inputs_are_read_or_refused(path: Path) -> None:
    answer = read(path.parent.name, path.read_bytes())
    assert path.name.startswith("found-") or not isinstance(answer, LcveError), answer
