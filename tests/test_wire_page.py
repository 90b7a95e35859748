"""``docs/evidence/wire.md`` is made from the results, and says what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from benchmarks.common.files import DOCS, RESULTS
from benchmarks.wire.features import IMAGES, PLAIN_H264, VIDEO, compare_features
from benchmarks.wire.features_page import write_features_chart
from benchmarks.wire.lengths import compared
from benchmarks.wire.measuring import at
from benchmarks.wire.page import render, write_chart

RATES = json.loads((RESULTS / "wire.json").read_text())
FEATURES = json.loads((RESULTS / "wire-features.json").read_text())
LENGTHS = json.loads((RESULTS / "wire-lengths.json").read_text())
LINK = json.loads((RESULTS / "wire-link.json").read_text())


def test_page_and_chart_are_made_from_the_results(tmp_path: Path) -> None:
    """If this fails: ``python -m benchmarks.wire --only-page``."""
    assert (DOCS / "wire.md").read_text(encoding="utf-8") == render(RATES, LINK, LENGTHS, FEATURES)
    write_chart(RATES, tmp_path / "wire.svg")
    write_features_chart(FEATURES, tmp_path / "features.svg")
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("wire.svg", "features.svg"))


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


def test_an_error_of_features_can_be_asked_for_too() -> None:
    points = [{"error": 0.4, "bytes": 100.0}, {"error": 0.2, "bytes": 10000.0}]
    assert at(points, 0.3, by="error") == pytest.approx(1000)
    assert at(points, 0.1, by="error") is None


def test_features_are_compared_with_the_plain_frames_of_all_clips() -> None:
    plain = {"first": np.array([[0.0, 0], [1, 0]]), "second": np.array([[4.0, 0], [8, 0], [12, 0]])}
    same = compare_features(plain["second"], plain, "second", spread=2)
    assert same == {"error": 0, "frame": 1, "near": 1}
    moved = compare_features(plain["second"] + [[0, 3.0], [3, 0], [-8, 0]], plain, "second", spread=2)
    assert moved["error"] == pytest.approx(np.sqrt((9 + 9 + 64) / 3) / 2)
    assert moved["frame"] == pytest.approx(1 / 3)
    assert moved["near"] == pytest.approx(2 / 3)


def test_compressed_clips_keep_their_features() -> None:
    """At the default step, through an artifact and as frames of a clip; plain H.264 is smaller at equal error."""
    assert FEATURES["exactness"] < 1e-4
    for clip, ways in FEATURES["features"].items():
        for way in (IMAGES, VIDEO):
            (row,) = [row for row in ways[way] if row["quality"] == 16]
            assert row["error"] < 0.25, clip
            errors = [row["error"] for row in ways[way]]
            assert errors[0] == min(errors)
        sizes = [at(ways[way], 0.2, by="error") for way in (PLAIN_H264, VIDEO, IMAGES)]
        assert sizes == sorted(size for size in sizes if size is not None), clip


def test_padded_lengths_show_less() -> None:
    lengths = {"first": [5, 9, 10], "second": [10, 11, 30]}
    none, tens, hundreds = compared(lengths, (1, 10, 100))
    assert none == {"pad": 1, "lengths": 5, "named": 5 / 6, "mean": 12.5}
    assert tens == {"pad": 10, "lengths": 3, "named": 5 / 6, "mean": 15}
    assert hundreds == {"pad": 100, "lengths": 1, "named": 0.5, "mean": 100}


def test_a_small_padding_hides_little() -> None:
    """What the guide says, and that only one length for all hides which video a clip is of."""
    for rows in LENGTHS["steps"].values():
        assert [row["lengths"] for row in rows] == sorted((row["lengths"] for row in rows), reverse=True)
        assert rows[2]["named"] > 0.8
        assert all(row["named"] > 0.5 for row in rows if row["lengths"] > 1)
