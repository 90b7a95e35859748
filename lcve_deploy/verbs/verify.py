"""Verify an artifact against the checkpoint that it was exported from, as the owner. Needs the key."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lcve_deploy.artifact import PublicKey
from lcve_deploy.artifact.names import MODEL
from lcve_deploy.client import Client
from lcve_deploy.errors import MismatchError
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.assumptions import Fact
from lcve_deploy.model.checkpoint_record import CheckpointForm
from lcve_deploy.model.output import ModelOutput, OutputKind
from lcve_deploy.model.parity import BUDGET_MARGIN, CONTROL_MARGIN, ParityReport
from lcve_deploy.progress import Progress, silent
from lcve_deploy.runtime import SessionOptions
from lcve_deploy.runtime.opening import open_server
from lcve_deploy.verbs._comparing import comparison_clips, measure_parity
from lcve_deploy.verbs.pairs import paired_client

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints import Checkpoint, CheckpointOptions

__all__ = ["verify"]


_CHOICES: Final = {
    OutputKind.FEATURES: OutputChoice.FEATURES,
    OutputKind.TOKENS: OutputChoice.TOKENS,
    OutputKind.TOKEN_LOGITS: OutputChoice.TOKENS,
}
"""What a checkpoint should answer, to be compared with an artifact that answers this."""


def _ignore(note: str) -> None:
    """Ignore a note."""


def verify(
    artifact: str | os.PathLike[str],
    *,
    key: SecurityKey,
    checkpoint: str | os.PathLike[str],
    options: CheckpointOptions | None = None,
    clips: Sequence[str | os.PathLike[str]] = (),
    tolerance: float | None = None,
    thorough: bool = False,
    engine: str | None = None,
    signed_by: PublicKey | None = None,
    engine_secret: Path | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = _ignore,
) -> ParityReport:
    """Compare an artifact's logits on encrypted clips with the plain model's, and run the negative controls.

    Args:
        artifact: folder with ``server/`` and ``client/``.
        key: key of the artifact.
        checkpoint: the checkpoint that it was exported from.
        options: facts that the checkpoint does not contain; those of the export are taken from the artifact.
        clips: videos to compare on; by default built-in real clips and noise.
        tolerance: largest ``|Δlogit|`` that counts as equal; by default that of the export, or the engine's budget.
        thorough: compare with a float64 reference instead of a float32 one, and on more built-in clips.
        engine: name of an engine to compare instead of the graph; its controls must differ by three budgets.
        signed_by: pinned public key of the owner.
        engine_secret: file with this machine's secret, as for ``SessionOptions``.
        progress: receives every step.
        note: receives what is taken from the artifact, and what is assumed, each as text.

    Returns:
        The figures; ``ParityReport.require`` raises if they are not within the tolerance.

    Raises:
        ArtifactError: the artifact is invalid, or has no such engine.
        SignatureError: the pinned key has not signed the manifest.
        CheckpointError: the checkpoint cannot be read.
        MismatchError: the key or the checkpoint does not belong to the artifact, or an option contradicts the export.
        VideoError: a video cannot be read.
        SessionError, MissingDependencyError: the model cannot be opened.
    """
    from lcve_deploy.exporters.checkpoints import CheckpointOptions
    from lcve_deploy.exporters.reference.builtin import ReferencePrecision
    from lcve_deploy.exporters.reference.transformers import reference_for

    root, path = Path(artifact), Path(checkpoint)
    client = paired_client(root, key, signed_by)
    manifest, session = open_server(
        root / "server", SessionOptions(engine=engine, engine_secret=engine_secret, signed_by=signed_by)
    )
    loaded = _matching_checkpoint(path, options or CheckpointOptions(), root / "server", client, note)
    proof = session.engine.proof if session.engine else None
    return measure_parity(
        session,
        reference_for(loaded, ReferencePrecision.of(thorough=thorough)),
        client,
        comparison_clips(client, clips, thorough=thorough),
        tolerance=tolerance or (proof.budget if proof else manifest.parity.tolerance),
        margin=BUDGET_MARGIN if proof else CONTROL_MARGIN,
        thorough=thorough,
        progress=progress,
    )


def _matching_checkpoint(
    path: Path, options: CheckpointOptions, server: Path, client: Client, note: Callable[[str], None]
) -> Checkpoint:
    """Load the checkpoint as the export did.

    Raises:
        MismatchError: it takes other clips, has another number of classes, or an option contradicts the artifact.
    """
    from lcve_deploy.exporters.checkpoints import load_checkpoint
    from lcve_deploy.exporters.checkpoints.recorded import CLASS_VECTORS, arguments_of, shown, with_recorded

    settings = client.settings
    recorded, given = _recorded(path, server, client, note), arguments_of(options)
    if taken := {name: text for name, text in recorded.items() if name not in (*given, CLASS_VECTORS)}:
        note(f"the checkpoint is read as at the export: {shown(taken)}")
    options = with_recorded(options, recorded)
    if options.output is None:
        options = dataclasses.replace(options, output=_CHOICES.get(settings.answer.kind))
    loaded = load_checkpoint(path, options)
    for assumption in loaded.assumptions:
        if assumption.fact is not Fact.RESIZING:  # clips are made as the client settings say
            note(f"assumed {assumption}")
    geometry, output = loaded.model.config.geometry, ModelOutput.of(loaded.model.config)
    if geometry != settings.binding.geometry or output != settings.answer:
        raise MismatchError(
            f"the artifact takes {settings.binding.geometry} and answers {settings.answer}, the checkpoint takes "
            f"{geometry} and answers {output}",
            hint="pass the checkpoint that the artifact was exported from",
        )
    return loaded


def _recorded(path: Path, server: Path, client: Client, note: Callable[[str], None]) -> dict[str, str]:
    """Return the options that the artifact states for a checkpoint of this form."""
    from lcve_deploy.exporters.checkpoints.recorded import form_of

    form, record = form_of(path), client.settings.checkpoint
    in_graph = _stated_by_graph(server, client) if form is CheckpointForm.FILE else {}
    if record is None:
        return in_graph
    if record.form is not form:
        note(f"the artifact was exported from a {record.form}: its options do not apply to a {form}")
        return in_graph
    return {**in_graph, **record.options}


def _stated_by_graph(server: Path, client: Client) -> dict[str, str]:
    from lcve_deploy.exporters.onnx import read_heads

    heads, geometry = read_heads(server / MODEL), client.settings.binding.geometry
    stated = {"--frames": str(geometry.frames), "--size": str(geometry.height)}
    return {**({"--num-heads": str(heads)} if heads else {}), **stated}
