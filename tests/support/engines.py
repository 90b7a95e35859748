"""Engines as this machine would have made them, and as another would have."""

from __future__ import annotations

from pathlib import Path

from lcve_deploy.artifact import EngineRecord
from lcve_deploy.artifact.engine_mac import authenticate
from lcve_deploy.artifact.engine_secret import make_secret
from lcve_deploy.artifact.engines import write_engine

__all__ = ["write_own_engine"]


def write_own_engine(folder: Path, record: EngineRecord) -> EngineRecord:
    """Write a record with the MAC of this machine over what it says; returns it."""
    own = authenticate(record, make_secret(folder))
    write_engine(folder, own)
    return own
