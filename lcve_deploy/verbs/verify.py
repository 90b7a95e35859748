"""Verify an artifact against the checkpoint it came from: the owner's check, with the key."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lcve_deploy.artifact import PublicKey
from lcve_deploy.artifact.names import MODEL
from lcve_deploy.client import Client
from lcve_deploy.errors import MismatchError
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.parity import BUDGET_MARGIN, CONTROL_MARGIN, ParityReport
from lcve_deploy.progress import Progress, silent
from lcve_deploy.runtime import SessionOptions
from lcve_deploy.runtime.opening import open_server
from lcve_deploy.verbs._comparing import comparison_clips, measure_parity
from lcve_deploy.verbs.pairs import paired_client

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints import Checkpoint, CheckpointOptions

__all__ = ["verify"]


def verify(
    artifact: str | os.PathLike[str],
    *,
    key: SecurityKey,
    checkpoint: str | os.PathLike[str],
    options: CheckpointOptions | None = None,
    clips: Sequence[str | os.PathLike[str]] = (),
    tolerance: float | None = None,
    engine: str | None = None,
    signed_by: PublicKey | None = None,
    engine_secret: Path | None = None,
    progress: Progress = silent,
) -> ParityReport:
    """Compare an artifact's logits on encrypted clips with the plain model's, controls included.

    Args:
        artifact: folder with ``server/`` and ``client/``.
        key: of the artifact.
        checkpoint: that it was exported from.
        options: what the checkpoint does not say; geometry and heads come from the artifact.
        clips: videos to compare on; by default built-in real clips and noise.
        tolerance: largest ``|Δlogit|``; by default the one that the artifact was exported with, or the
            engine's budget.
        engine: to compare in place of the graph; its controls must miss by three budgets.
        signed_by: the owner's public key, where it is pinned.
        engine_secret: file with this machine's secret, as of ``SessionOptions``.
        progress: told of every step.

    Raises:
        ArtifactError, SignatureError, CheckpointError, MismatchError, VideoError: see the parts.
    """
    from lcve_deploy.exporters.reference.transformers import reference_for

    root, path = Path(artifact), Path(checkpoint)
    client = paired_client(root, key, signed_by)
    manifest, session = open_server(
        root / "server", SessionOptions(engine=engine, engine_secret=engine_secret, signed_by=signed_by)
    )
    loaded = _matching_checkpoint(path, options, root / "server", client)
    proof = session.engine.proof if session.engine else None
    return measure_parity(
        session,
        reference_for(loaded),
        client,
        comparison_clips(client, clips),
        tolerance=tolerance or (proof.budget if proof else manifest.parity.tolerance),
        margin=BUDGET_MARGIN if proof else CONTROL_MARGIN,
        progress=progress,
    )


def _matching_checkpoint(path: Path, options: CheckpointOptions | None, server: Path, client: Client) -> Checkpoint:
    """The checkpoint; what an official file does not say of clip and heads is taken from the artifact.

    Raises:
        MismatchError: it takes other clips, or has another number of classes.
    """
    from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
    from lcve_deploy.exporters.onnx import read_heads

    known, geometry = options or CheckpointOptions(), client.settings.binding.geometry
    if not path.is_dir():  # a folder says all this itself
        known = dataclasses.replace(
            known,
            heads=known.heads or read_heads(server / MODEL),
            frames=known.frames or geometry.frames,
            size=known.size or geometry.height,
        )
    loaded = load_checkpoint(path, known)
    if loaded.model.config.geometry != geometry or loaded.model.config.classes != len(client.settings.classes):
        raise MismatchError(
            f"the artifact takes {geometry} and has {len(client.settings.classes)} classes, the checkpoint "
            f"{loaded.model.config.geometry} and {loaded.model.config.classes}",
            hint="pass the checkpoint that the artifact was exported from",
        )
    return loaded
