"""Fixtures of the tests in this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    Client,
    PlainClip,
    SecurityKey,
    sign,
)
from lcve_deploy.clipfile import ClipFile, write_clip_file
from lcve_deploy.clips import Views
from tests.signing.helpers import OWNER


@pytest.fixture
def signed(artifact: Path) -> Path:
    """A signed artifact, to break."""
    sign(artifact / "server", signing_key=OWNER)
    return artifact


@pytest.fixture
def signing_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The owner's private key; its public one is beside it."""
    path = tmp_path_factory.mktemp("keys") / "signing.pem"
    OWNER.write(path)
    return path


@pytest.fixture
def pin_file(signing_file: Path) -> Path:
    return signing_file.with_suffix(".pub")


@pytest.fixture
def encrypted(exported: Path, key: SecurityKey, clip: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    client = Client.open(exported / "client", key)
    path = tmp_path_factory.mktemp("clip") / "clip.lcve"
    write_clip_file(path, ClipFile(clip=client.encrypt(PlainClip(values=clip[None])), views=Views()))
    return path
