"""``docs/evidence/wire.md`` is made from the results, and says what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from benchmarks.common.files import DOCS, RESULTS
from benchmarks.wire.lengths import compared
from benchmarks.wire.measuring import at
from benchmarks.wire.page import render, write_chart

RATES = json.loads((RESULTS / "wire.json").read_text())
LENGTHS = json.loads((RESULTS / "wire-lengths.json").read_text())
LINK = json.loads((RESULTS / "wire-link.json").read_text())


def test_page_and_chart_are_made_from_the_results(tmp_path: Path) -> None:
    """If this fails: ``python -m benchmarks.wire --only-page``."""
    assert (DOCS / "wire.md").read_text(encoding="utf-8") == render(RATES, LINK, lengths=LENGTHS)
    write_chart(RATES, tmp_path / "wire.svg")
    assert (tmp_path / "wire.svg").stat().st_size > 10_000


def test_packed_clips_are_smaller_than_jpeg_of_plain_ones_at_40_db() -> None:
    """What the guide promises: 20 to 220 kB."""
    for clip, methods in RATES["figures"]["rates"].items():
        size = at(methods["lcve-dct-1"], 40)
        assert size is not None, clip
        assert 15e3 < size < 220e3
        mjpeg = at(methods["plain MJPEG 4:4:4"], 40)
        assert mjpeg is None or size < mjpeg
        assert 10 < methods["lcve-1"]["bytes"] / size < 140


def test_a_size_between_two_qualities_is_interpolated() -> None:
    points = [{"psnr": 30.0, "bytes": 100.0}, {"psnr": 40.0, "bytes": 10000.0}]
    assert at(points, 35) == pytest.approx(1000)
    assert at(points, 41) is None


def test_padded_lengths_show_less() -> None:
    lengths = {"first": [5, 9, 10], "second": [10, 11, 30]}
    none, tens, hundreds = compared(lengths, (1, 10, 100))
    assert none == {"pad": 1, "lengths": 5, "told": 5 / 6, "mean": 12.5}
    assert tens == {"pad": 10, "lengths": 3, "told": 5 / 6, "mean": 15}
    assert hundreds == {"pad": 100, "lengths": 1, "told": 0.5, "mean": 100}


def test_a_small_padding_hides_little() -> None:
    """What the guide says, and that only one length for all hides which video a clip is of."""
    for rows in LENGTHS["steps"].values():
        assert [row["lengths"] for row in rows] == sorted((row["lengths"] for row in rows), reverse=True)
        assert rows[2]["told"] > 0.8
        assert all(row["told"] > 0.5 for row in rows if row["lengths"] > 1)
