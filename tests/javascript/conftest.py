"""Fixtures of the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.node import JavaScriptClient


@pytest.fixture(scope="session")
def javascript() -> Iterator[JavaScriptClient]:
    """The client of ``clients/js/``."""
    with JavaScriptClient() as client:
        yield client
