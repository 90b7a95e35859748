"""Fixtures of the tests in this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import Client, EncryptedClip, PlainClip, SecurityKey


@pytest.fixture
def server(artifact: Path) -> Path:
    return artifact / "server"


@pytest.fixture
def encrypted(exported: Path, key: SecurityKey, clip: np.ndarray) -> EncryptedClip:
    client = Client.open(exported / "client", key)
    return client.encrypt(PlainClip(values=np.stack([clip, clip[::-1], 255 - clip])))
