"""Load a model folder to serve: check, open and probe it. Its keys are checked later, one by one."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import Probe, read_probe
from lcve_deploy.model.parity import ParityReport
from lcve_deploy.runtime import Session, SessionOptions
from lcve_deploy.runtime.bank import Tensors
from lcve_deploy.runtime.boundary import version_boundary
from lcve_deploy.runtime.opening import open_server
from lcve_deploy.runtime.probe import engine_budget, probe_model, prove_engine
from lcve_deploy.runtime.probing import check_answer

__all__ = ["LoadedModel", "load_model"]

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A session that has passed the probe.

    Args:
        session: the session.
        parity: comparison of the model with the plain one, by which probes are judged.
        digest: digest of the manifest that it was opened with.
    """

    session: Session
    parity: ParityReport
    digest: str

    def prove_key(self, tensors: Tensors, probe: Probe) -> None:
        """Run the probe of a key with its tensors, which no request can use during that.

        Raises:
            ParityError: the answer is wrong.
            ArtifactError, SessionError: the tensors do not fit, or the engine failed.
        """
        engine = self.session.engine
        tolerance = None if engine is None else engine_budget(engine, self.parity)
        logits = self.session.run_with(probe.clip, tensors)
        check_answer(probe, logits, self.parity, tolerance=tolerance).require()


def load_model(folder: Path, options: SessionOptions) -> LoadedModel:
    """Check a server folder, open it and run its probe. Whatever goes wrong is the failure of this version alone.

    Args:
        folder: server folder with ``manifest.json``.
        options: session options. Files are never mapped, because they may change under a running server.

    Raises:
        ArtifactError, SignatureError, SessionError, MissingDependencyError: see ``open_session``. Any other exception
            of a reader or a runtime becomes a SessionError.
        ParityError: the answer to the probe is wrong.
        OSError: a file cannot be read.
    """
    with version_boundary(folder):
        manifest, session = open_server(folder, dataclasses.replace(options, mapped=False), passed_over=_log)
        probe = read_probe(folder, manifest)
        if session.engine is None:
            report = probe_model(session, probe, manifest.parity)
        else:
            report, _ = prove_engine(session, probe, manifest.parity, session.engine)
        report.require()
        return LoadedModel(session=session, parity=manifest.parity, digest=manifest.digest)


def _log(engine: str, reason: str) -> None:
    _LOG.warning("engine passed over", extra={"engine": engine, "reason": reason})
