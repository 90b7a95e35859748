"""``lcve keyspace``: the paper's Table 1, the same for other geometries, and what bounds it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcve_deploy import ClipGeometry, KeySpace, SecurityKey, key_spaces
from lcve_deploy.attacks.clips import ask_chosen
from lcve_deploy.attacks.holdings import Cubes, Holdings
from lcve_deploy.cipher.clips import encrypt
from lcve_deploy.clips import PlainClip
from lcve_deploy.keys.keyspace import BOUNDS, KEY_BITS, Level
from lcve_deploy.keys.orders import derive_orders
from tests.conftest import SALT, run_error, run_ok

PAPER = "16x224x224x3/2x16x16"
MEASURED = json.loads((Path(__file__).parents[1] / "benchmarks/results/attacks.json").read_text())
KNOWN_CLIPS = json.loads((Path(__file__).parents[1] / "paper/results/known-clips.json").read_text())["rows"]


def exact(space: KeySpace) -> int:
    """The whole number that the numbers of a row stand for, from their text."""
    factors = (
        math.factorial(int(text[:-1])) if text.endswith("!") else 2 ** int(text[2:])
        for text in space.numbers.split("·")
    )
    return math.prod(factors)


def two_digits(number: int) -> tuple[int, int]:
    """Mantissa times ten, and exponent, by whole numbers alone."""
    exponent = int(math.log10(number)) + 2
    while 10**exponent > number:
        exponent -= 1
    tens = (20 * number + 10**exponent) // (2 * 10**exponent)
    return (tens, exponent) if tens < 100 else (10, exponent + 1)


def assert_exact(space: KeySpace) -> None:
    assert space.size is not None
    number = exact(space)
    assert (round(10 * space.size.mantissa), space.size.exponent) == two_digits(number)
    assert space.size.bits == pytest.approx(math.log2(number), rel=1e-12, abs=1e-12)
    assert space.key_file_bits == min(space.size.bits, 256)


def row(geometry: str, method: str, level: Level = Level.VIDEO) -> KeySpace:
    (found,) = (s for s in key_spaces(ClipGeometry.parse(geometry)) if (s.method, s.level) == (method, level))
    return found


def test_the_papers_table() -> None:
    rows = [(s.method, s.level.value, s.formula, s.numbers, str(s.size)) for s in key_spaces(ClipGeometry.parse(PAPER))]
    assert rows == [
        ("Pixel Shuffle", "frame", "(hwC)!", "768!", "1.8×10^1884"),
        ("Patch Shuffle", "frame", "N_p!", "196!", "5.1×10^365"),
        ("LE", "frame", "(2hwC)!·2^(2hwC)", "1536!·2^1536", "3.9×10^4691"),
        ("Qi et al.", "frame", "(hw/4)!·N_p!", "64!·196!", "6.4×10^454"),
        ("LCVE", "frame", "(hwC)!·N_p!", "768!·196!", "9.3×10^2249"),
        ("Pixel Shuffle", "video", "(thwC)!", "1536!", "1.6×10^4229"),
        ("Cube Shuffle", "video", "N_c!", "1568!", "2.1×10^4331"),
        ("LE", "video", "(2thwC)!·2^(2thwC)", "3072!·2^3072", "1.3×10^10306"),
        ("Qi et al.", "video", "(hwt/8)!·N_c!", "64!·1568!", "2.7×10^4420"),
        ("LCVE", "video", "(thwC)!·N_c!", "1536!·1568!", "3.5×10^8560"),
    ]


SIDE = st.integers(1, 6)


@st.composite
def geometries(draw: st.DrawFn) -> ClipGeometry:
    cube = (draw(SIDE), draw(SIDE), draw(SIDE))
    frames, height, width = (side * draw(st.integers(1, 9)) for side in cube)
    return ClipGeometry(frames=frames, height=height, width=width, channels=draw(st.integers(1, 4)), cube=cube)


@given(geometries())
def test_sizes_are_those_of_exact_integers(geometry: ClipGeometry) -> None:
    t, h, w = geometry.cube
    spaces = key_spaces(geometry)
    assert len(spaces) == 10
    for space in spaces:
        one_frame = space.level is Level.FRAME or t == 1
        halves = (h, w) if one_frame else (t, h, w)
        if space.method == "Qi et al." and any(side % 2 for side in halves):
            assert (space.size, space.chosen_clips, space.key_file_bits) == (None, None, None)
            assert "x".join(map(str, halves)) in space.remark
            continue
        assert_exact(space)
        at = replace(geometry, frames=1, cube=(1, h, w)) if space.level is Level.FRAME else geometry
        values, cubes = f"{at.values}!", f"{at.cubes}!"
        assert (
            space.numbers
            == {
                "Pixel Shuffle": values,
                "Patch Shuffle": cubes,
                "Cube Shuffle": cubes,
                "LE": f"{2 * at.values}!·2^{2 * at.values}",
                "Qi et al.": f"{math.prod(halves) // 2 ** len(halves)}!·{cubes}",
                "LCVE": f"{values}·{cubes}",
            }[space.method]
        )


@pytest.mark.parametrize("geometry", [PAPER, "64x448x448x3/2x16x16", "16x224x224x4/4x28x28", "1x518x518x3/1x14x14"])
def test_larger_sizes_are_those_of_exact_integers(geometry: str) -> None:
    for space in key_spaces(ClipGeometry.parse(geometry)):
        assert_exact(space)


@pytest.mark.parametrize(
    ("geometry", "sizes"),
    [
        ("64x1024x1024x4/2x16x16", {"Cube Shuffle": "2.4×10^613841", "LCVE": "3.9×10^619735"}),  # most cubes
        ("256x1024x1024x1/16x64x64", {"LE": "9.5×10^653297", "Pixel Shuffle": "5.2×10^287193"}),  # most values
    ],
)
def test_the_largest_geometries_are_computed(geometry: str, sizes: dict[str, str]) -> None:
    assert {method: str(row(geometry, method).size) for method in sizes} == sizes
    for method in sizes:
        assert_exact(row(geometry, method))


def test_rounding_carries_to_the_next_power() -> None:
    space = row("261x1x1x1/1x1x1", "Cube Shuffle")  # 261! is 9.9968... times 10^518
    assert str(space.size) == "1.0×10^519"
    assert_exact(space)


@pytest.mark.parametrize(("cubes", "shown"), [(1, "1"), (2, "2"), (4, "24"), (5, "1.2×10^2"), (7, "5.0×10^3")])
def test_small_spaces(cubes: int, shown: str) -> None:
    space = row(f"{cubes}x1x1x1/1x1x1", "Cube Shuffle")
    assert str(space.size) == shown
    assert space.key_file_bits == pytest.approx(math.log2(math.factorial(cubes)))


def test_where_nothing_can_be_shuffled_there_is_one_order() -> None:
    space = row("1x1x1x1/1x1x1", "LCVE")
    assert space.size is not None
    assert (str(space.size), space.numbers, space.size.bits, space.chosen_clips) == ("1", "1!·1!", 0.0, 0)
    assert "-" not in f"{space.size.bits:.1f}"


@pytest.mark.parametrize(
    ("geometry", "frame", "video"),
    [
        ("4x6x10x3/2x3x5", "sides 3x5 cannot", "sides 2x3x5 cannot"),
        ("6x8x8x3/3x4x4", "", "sides 3x4x4 cannot"),
        ("2x6x6x3/1x3x3", "sides 3x3 cannot", "sides 3x3 cannot"),
        ("2x8x8x3/1x4x4", "", "in space alone: (hw/4)!"),
    ],
)
def test_cubes_that_cannot_be_halved(geometry: str, frame: str, video: str) -> None:
    for level, said in ((Level.FRAME, frame), (Level.VIDEO, video)):
        space = row(geometry, "Qi et al.", level)
        assert said in space.remark
        assert bool(space.remark) == bool(said)
        assert (space.size is None) == ("cannot" in said)
        assert space.remark in run_ok("keyspace", geometry)
    if "alone" in video:
        assert row(geometry, "Qi et al.").numbers == "4!·8!"


def test_a_key_file_has_as_many_bits_as_the_bound_says() -> None:
    key = SecurityKey(bytes(range(32)))  # no other length is taken
    with pytest.raises(ValueError):
        SecurityKey(bytes(33))
    assert key.to_bytes()[8:40] == bytes(range(32))
    assert KEY_BITS == 8 * 32
    assert row(PAPER, "LCVE").key_file_bits == 256.0


@pytest.mark.parametrize("geometry", ["8x32x32x3/2x8x8", "4x8x8x3/2x4x4", "2x32x64x1/2x2x2", "4x4x4x1/2x2x2"])
def test_as_many_chosen_clips_as_the_table_says_are_enough(geometry: str, key: SecurityKey) -> None:
    parsed = ClipGeometry.parse(geometry)
    asked: list[Any] = []
    orders = derive_orders(key, salt=SALT, geometry=parsed)

    def oracle(cubes: Cubes) -> Cubes:
        asked.extend(cubes)
        encrypted: Cubes = encrypt(PlainClip(values=parsed.from_cubes(cubes, np)), orders).values
        return encrypted

    found = ask_chosen(Holdings(geometry=parsed, oracle=oracle))
    np.testing.assert_array_equal(found.cubes, orders.cube_order)
    np.testing.assert_array_equal(found.values, orders.pixel_order)
    assert len(asked) == row(geometry, "LCVE").chosen_clips


@given(st.integers(1, 300), st.randoms(use_true_random=False))
def test_le_too_is_read_from_so_many_chosen_clips(values: int, random: object) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    halves = 2 * values
    order, flips = rng.permutation(halves), rng.integers(0, 2, halves, dtype=bool)

    def encrypted(clip: np.ndarray) -> np.ndarray:
        return np.where(flips, 15 - clip, clip)[order]

    digits = row(f"1x{values}x1x1/1x{values}x1", "LE").chosen_clips
    assert digits is not None
    zeros = encrypted(np.zeros(halves, dtype=int))
    reversed_there = zeros == 15
    asked = [encrypted(np.arange(halves) // 16**digit % 16) for digit in range(digits - 1)]
    found = sum(16**digit * np.where(reversed_there, 15 - clip, clip) for digit, clip in enumerate(asked))
    np.testing.assert_array_equal(found, order)
    np.testing.assert_array_equal(reversed_there, flips[order])


def shares(subject: str, attack: str) -> dict[str, float]:
    (found,) = (a for a in MEASURED[subject]["attacks"] if a["name"] == attack)
    return {order: values["exact"] for order, values in found["recovered"].items()}


def test_the_bounds_say_what_was_measured() -> None:
    bounds = {bound.name: bound.figures for bound in BOUNDS}
    for name, attack, subjects in (
        ("known_clip", "known", ("vit", "digits", "videomae")),
        ("chosen_clips", "chosen", ("vit", "digits", "videomae")),
        ("public_weights", "reference", ("digits", "videomae")),
    ):
        for subject in subjects:
            assert shares(subject, attack) == {k: v for k, v in bounds[name].items() if k in ("K1", "K2", "K3")}
    videos = [entry["verdicts"][0]["recovered"] for entry in MEASURED["video"]["videos"].values()]
    shown = {k: v for k, v in bounds["encrypted_clip"].items() if k != "clips"}
    assert shown in [{order: round(share, 2) for order, share in video.items()} for video in videos]
    assert {round(video["K1"], 3) for video in videos} >= {0.002}
    for geometry in ("16x64x64x3/2x8x8", PAPER, "1x518x518x3/1x14x14"):
        assert row(geometry, "LCVE").chosen_clips == bounds["chosen_clips"]["clips"]


def known_rows(subject: str, known: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of LE, and of all other methods; all methods are there at both levels."""
    rows = [row for row in KNOWN_CLIPS if (row["subject"], row["known"]) == (subject, known)]
    names = [f"{name}-{level.value}" for name in ("pixel", "cube", "le", "qi", "lcve") for level in Level]
    assert [row["method"] for row in rows] == names
    return [row for row in rows if row["method"].startswith("le-")], [
        r for r in rows if not r["method"].startswith("le-")
    ]


def least(rows: list[dict[str, Any]], order: str, measure: str = "least") -> float:
    """Rounded down to tenths of a per cent, as the texts are."""
    share = min(row["found"][order][measure] for row in rows if order in row["found"])
    return math.floor(1000 * share) / 1000


def all_exact(rows: list[dict[str, Any]]) -> bool:
    return all(row["exact"] == row["trials"] for row in rows) and {
        share["least"] for row in rows for share in row["found"].values()
    } == {1.0}


def test_the_bound_of_a_known_clip_says_what_was_measured_of_every_method() -> None:
    (bound,) = (bound for bound in BOUNDS if bound.name == "known_clip")
    assert {row["geometry"] for row in KNOWN_CLIPS if row["subject"] == "film"} == {PAPER}
    le_digits, others_digits = known_rows("digits", 1)
    film = [row for rows in known_rows("film", 1) for row in rows]
    assert all_exact([*others_digits, *(row for rows in known_rows("digits", 4) for row in rows)])
    assert all(row["exact"] >= 1 and row["trials"] == 2 for row in film)  # one of the clips gave all of it
    assert {least(film, order) for order in ("K2", "halves", "reversed")} == {1.0}
    cubes, halves = least(film, "K1"), least(le_digits, "halves", "mean")
    values = math.floor(1000 * min(row["values"]["least"] for row in KNOWN_CLIPS)) / 1000
    assert bound.figures == {
        "clips": 1, "K1": 1.0, "K2": 1.0, "film_cubes": cubes, "digits_half_bytes": halves, "values": values
    }  # fmt: skip
    page = " ".join((Path(__file__).parents[1] / "docs/evidence/security.md").read_text().split())
    for text in (bound.text, page):
        assert f"gave {100 * cubes:.1f} % of the order of cubes and all else" in text
        assert f"of that {100 * halves:.1f} % of the half bytes on average; four clips gave all" in text
        assert f"In the worst case {100 * values:.1f} % of the values of other clips were right" in text


def test_the_command_prints_the_table_and_the_bounds() -> None:
    shown = run_ok("keyspace")
    assert shown == run_ok("keyspace", PAPER)
    (line,) = (line for line in shown.splitlines() if line.startswith("LCVE") and " video " in line)
    assert line.split() == ["LCVE", "video", "(thwC)!·N_c!", "1536!·1568!", "3.5×10^8560", "28437.5", "256.0", "4"]
    assert "N_p = 196, hwC = 768; N_c = 1568, thwC = 1536" in shown
    assert all(f"- {bound.title}." in shown for bound in BOUNDS)
    assert max(map(len, shown.splitlines())) <= 120


def test_json_has_rows_and_bounds() -> None:
    said = json.loads(run_ok("keyspace", "6x8x8x3/3x4x4", "--json"))
    assert said["geometry"] == "6x8x8x3/3x4x4"
    assert len(said["methods"]) == 10
    lcve, qi = said["methods"][-1], said["methods"][-2]
    assert lcve["numbers"] == "144!·8!"
    assert (lcve["mantissa"], lcve["exponent"], lcve["key_file_bits"], lcve["chosen_clips"]) == (2.2, 254, 256, 2)
    assert lcve["bits"] == pytest.approx(math.log2(math.factorial(144) * math.factorial(8)))
    assert lcve["known_clip"] == "the orders of values and blocks"
    assert [qi[name] for name in ("numbers", "mantissa", "exponent", "bits", "chosen_clips")] == [None] * 5
    assert "cannot all be halved" in qi["remark"]
    assert set(said["bounds"]) == {"key_file", "known_clip", "chosen_clips", "public_weights", "encrypted_clip"}
    assert said["bounds"]["key_file"]["bits"] == 256


def test_an_artifact_does_for_its_geometry(exported: Path, tmp_path: Path) -> None:
    expected = run_ok("keyspace", "8x32x32x3/2x8x8")
    for folder in (exported, exported / "server", exported / "client"):
        assert run_ok("keyspace", folder) == expected
    assert "is not an artifact" in run_error("keyspace", tmp_path)
    (tmp_path / "client.json").write_text("{}")
    assert "client.json" in run_error("keyspace", tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "expected a geometry"),
        ("nowhere", "expected a geometry"),
        ("16x224x224x3/2x16x15", "width 224 is not a multiple of the cube's 15"),
        ("64x1024x1024x4/1x16x16", "at most 131072 cubes"),
        ("0x1x1x1/1x1x1", "expected a geometry"),
    ],
)
def test_what_is_no_geometry_is_one_clear_error(given: str, said: str) -> None:
    assert said in run_error("keyspace", given)
    with pytest.raises(ValueError):
        ClipGeometry.parse(given)
