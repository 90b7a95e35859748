"""A fleet of cameras on one server, in small, and the page of its figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fleet import cameras
from benchmarks.fleet.cameras import observe, problems
from benchmarks.fleet.page import PAGE, read_results, render
from tests.conftest import run_ok


@pytest.mark.slow
def test_cameras_are_answered_under_their_own_keys_while_one_is_revoked_and_one_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What owner and operator do runs in this process; the server and the cameras have processes of their own."""
    monkeypatch.setattr(cameras, "lcve", run_ok)
    seen = observe(tmp_path, cameras=3, seconds=8, frames_per_second=8)
    assert problems(seen) == []
    assert seen["right"] > 0
    assert seen["revoked"]["answered"] > 0
    assert seen["revoked"]["refused"] > 0
    assert seen["renewed"]["old"] > 0
    assert seen["renewed"]["new"] > 0


def test_what_goes_wrong_is_a_problem() -> None:
    right = {
        "wrong": [],
        "lost": [],
        "revoked": {"answered": 3, "refused": 2, "answered_later": 0},
        "renewed": {"old": 1, "new": 1},
        "fewest_answers": 2,
    }
    assert problems(right) == []
    assert problems(right | {"wrong": ["window 3"]}) == ["window 3"]
    assert problems(right | {"lost": ["window 4"]}) == ["window 4"]
    for refused, later in ((0, 0), (2, 1)):
        (found,) = problems(right | {"revoked": {"answered": 3, "refused": refused, "answered_later": later}})
        assert "was not refused" in found
    for changed in ({"renewed": {"old": 1, "new": 0}}, {"fewest_answers": 0}):
        (found,) = problems(right | changed)
        assert "had no answer" in found


def test_the_page_is_made_of_the_results_beside_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(read_results("fleet.json"), read_results("fleet_cameras.json"))
