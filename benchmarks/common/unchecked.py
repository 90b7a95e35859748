"""The export as it is, but for what compares: for times of the rest, and for models that only have to run."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np

from lcve_deploy import Client, SecurityKey
from lcve_deploy.artifact import Probe
from lcve_deploy.model.parity import CONTROLS, ParityReport
from lcve_deploy.verbs.export import ExportOptions


def export_without_parity(
    checkpoint: Path, output: Path, key: SecurityKey, options: ExportOptions | None = None
) -> None:
    """The export as it is, files digested and on the disk, but for what compares: reference, session, probe."""
    from lcve_deploy.verbs import export as verb

    report = ParityReport(
        reference="none",
        clips=0,
        tolerance=0.0,
        max_difference=0.0,
        mean_difference=0.0,
        logit_scale=0.0,
        top1_agreement=0.0,
        top5_agreement=0.0,
        controls=dict.fromkeys(CONTROLS, 1.0),
    )

    def unasked(client: Client, _: object) -> Probe:
        binding = client.settings.binding
        clip = np.zeros((2, *binding.layout.shape(binding.geometry)), np.uint8)
        return Probe(clip=clip, logits=np.zeros((2, len(client.settings.classes))))

    with (
        mock.patch.object(verb, "comparison_clips"),
        mock.patch.object(verb, "reference_for"),
        mock.patch.object(verb, "OnnxRuntimeSession"),
        mock.patch.object(verb, "measure_parity", return_value=report),
        mock.patch.object(verb, "_probe", unasked),
        mock.patch.object(verb, "probe_session"),
    ):
        verb.export(checkpoint, output, key=key, options=options)
