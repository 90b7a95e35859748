"""Stages of long work, as they are reported."""

from __future__ import annotations

import pytest

from lcve_deploy.progress import step


class Told(list[tuple[str, int, int]]):
    def __call__(self, stage: str, done: int, total: int) -> None:
        self.append((stage, done, total))


def test_a_step_is_announced_and_then_done() -> None:
    told = Told()
    with step(told, "work"):
        assert told == [("work", 0, 1)]
    assert told == [("work", 0, 1), ("work", 1, 1)]


def test_parts_of_a_step_never_say_that_it_is_done() -> None:
    told = Told()
    with step(told, "work") as steps:
        for done in range(1, 4):
            steps(done, 3)
    assert told == [("work", 0, 1), ("work", 1, 3), ("work", 2, 3), ("work", 2, 3), ("work", 1, 1)]


def test_a_step_that_fails_is_not_done() -> None:
    told = Told()
    with pytest.raises(ValueError, match="no"), step(told, "work"):
        raise ValueError("no")
    assert told == [("work", 0, 1)]
