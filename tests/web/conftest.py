"""Fixtures of the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.samples import real_clips
from lcve_deploy.video.write import write_video
from tests.support.browser import Browser, require_chromium
from tests.support.pages import WebPage, serving_page

_FILM = ClipGeometry.parse("16x96x96x3/2x16x16")


def film() -> np.ndarray:
    """Frames of real film, ``[32, 96, 96, 3]``."""
    return real_clips(_FILM).reshape(-1, 96, 96, 3)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 32 frames of film, wider than high."""
    path = tmp_path_factory.mktemp("video") / "film.mp4"
    write_video(path, film()[:, 12:84])
    return path


@pytest.fixture(scope="module")
def page(exported: Path) -> Iterator[WebPage]:
    """``lcve web`` with an artifact on this machine."""
    with serving_page(exported) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_chromium()
    with Browser() as started:
        yield started
