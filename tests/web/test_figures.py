"""The figures of the guide to the page are those that ``benchmarks/browser.py`` wrote."""

from __future__ import annotations

import json
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks/results"
FIGURES, PACKED = (
    json.loads((RESULTS / name).read_text(encoding="utf-8")) for name in ("browser.json", "browser-lcve-dct-1.json")
)
PAGE = " ".join((REPOSITORY / "docs/guides/web.md").read_text(encoding="utf-8").split())


def test_differences_from_pyav() -> None:
    assert len(FIGURES["frames"]) == 6
    for name, found in FIGURES["frames"].items():
        assert f"| {name} | {found['mean']:.2f} | {found['largest']} |" in PAGE


def test_the_camera() -> None:
    camera = FIGURES["camera"]
    memory = camera["renderer_mib"]
    assert f"{camera['seconds']:.0f} seconds" in PAGE
    assert f"{memory['smallest']:.0f} to {memory['largest']:.0f} MiB" in PAGE
    assert f"median {memory['median']:.0f}" in PAGE
    assert f"by {camera['growth_percent']:+.1f}%" in PAGE
    assert f"a load average of {FIGURES['load']:.0f} before it" in PAGE
    assert f"{camera['missed']} of {camera['frames'] + camera['missed']} frames" in PAGE
    assert camera["errors"] == []
    for times in camera["milliseconds"].values():
        assert f"| {times['p50']:.0f} | {times['p95']:.0f} |" in PAGE


def test_the_camera_with_compressed_clips() -> None:
    camera, memory, times = PACKED["camera"], PACKED["camera"]["renderer_mib"], PACKED["camera"]["milliseconds"]
    assert (
        f"run of {camera['seconds']:.0f} seconds with other work (a load average of {PACKED['load']:.0f} before" in PAGE
    )
    assert f"encrypting took {times['Encrypting']['p50']:.0f} ms (p50)" in PAGE
    assert (
        f"packing {times['Packing']['p50']:.0f} ms, {camera['missed']} of {camera['frames'] + camera['missed']}" in PAGE
    )
    assert f"memory was {memory['smallest']:.0f} to {memory['largest']:.0f} MiB" in PAGE
    assert camera["errors"] == []
