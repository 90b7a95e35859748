"""Load a server folder as a model to serve: check, open and probe it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import read_probe
from lcve_deploy.runtime import Session, SessionOptions
from lcve_deploy.runtime.opening import checked_manifest, open_checked
from lcve_deploy.runtime.probe import probe_session, prove_engine

__all__ = ["load_model"]

_LOG: Final = logging.getLogger(__name__)


def load_model(folder: Path, options: SessionOptions) -> Session:
    """Check a server folder, open it and run its probe.

    Args:
        folder: server folder with ``manifest.json``.
        options: session options. Files are never mapped, because they may change under a running server.

    Returns:
        A session that has passed the probe.

    Raises:
        ArtifactError, SignatureError, SessionError, MissingDependencyError: see ``open_session``.
        ParityError: the answer to the probe is wrong.
    """
    manifest = checked_manifest(folder, options.signed_by)
    session = open_checked(folder, manifest, dataclasses.replace(options, mapped=False), passed_over=_log)
    probe = read_probe(folder, manifest)
    if session.engine is None:
        report = probe_session(session, probe, manifest.parity)
    else:
        report, _ = prove_engine(session, probe, manifest.parity, session.engine)
    report.require()
    return session


def _log(engine: str, reason: str) -> None:
    _LOG.warning("engine passed over", extra={"engine": engine, "reason": reason})
