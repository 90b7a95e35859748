"""Memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.watching import MAX_SPREAD, make_film, served, watch


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_does_not_grow(tmp_path: Path, exported: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has settled: how full the queues get at first depends on how busy the machine is."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # or what threads free stays with them
    film = make_film(tmp_path / "film.mp4")
    with served(exported / "server") as address:
        figures = watch(address, film, key_file, exported / "client", media_seconds=240)
    assert figures["counts"]["answered"] == figures["counts"]["windows"] == 240 * 24 // 16
    *_, third, last = figures["quarters_mib"]
    assert last / third - 1 < MAX_SPREAD / 100
