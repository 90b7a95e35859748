"""Refit a TensorRT engine: put the artifact's weights into an existing plan, without a build. Needs no key."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from lcve_deploy.artifact import EngineKind, EngineRecord, PublicKey, read_engine
from lcve_deploy.errors import BuildError
from lcve_deploy.progress import Progress, silent
from lcve_deploy.runtime.opening import read_own_engine
from lcve_deploy.verbs._carry_over import options_of
from lcve_deploy.verbs.build import RefitPlan, build

__all__ = ["refit"]


def refit(
    server: str | os.PathLike[str],
    engine: str,
    *,
    name: str | None = None,
    signed_by: PublicKey | None = None,
    engine_secret: Path | None = None,
    progress: Progress = silent,
) -> EngineRecord:
    """Create an engine from the plan of another one and the weights of the artifact.

    Args:
        server: the folder with ``manifest.json``.
        engine: name of a TensorRT engine; not changed.
        name: name of the new engine; by default the old name with ``-refitted``.
        signed_by: pinned public key of the owner.
        engine_secret: file with this machine's secret, as for ``BuildOptions``.
        progress: receives every step.

    Raises:
        BuildError: the engine is not a TensorRT engine, or its plan cannot be refitted.
        ForeignEngineError: this machine has not made the engine; its plan has not been read.
        ArtifactError, SignatureError, ParityError, SessionError, ExistsError: as for ``build``.
    """
    folder = Path(server)
    record = read_engine(folder, engine)
    if record.kind not in (EngineKind.TENSORRT, EngineKind.TENSORRT_RTX):
        raise BuildError(f"only TensorRT engines can be refitted; {engine} is an engine of {record.kind}")
    record = read_own_engine(folder, engine, engine_secret)
    options = options_of(record)
    options = dataclasses.replace(
        options,
        name=name or f"{engine}-refitted",
        plan=dataclasses.replace(options.plan, stripped=False),  # a refitted plan contains its weights
        signed_by=signed_by,
        engine_secret=engine_secret,
    )
    return build(folder, options, ranges=record.ranges, refit=RefitPlan.of(folder, record), progress=progress)
