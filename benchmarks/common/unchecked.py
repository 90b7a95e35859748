"""The export as it is, but for what compares: for times of the rest, and for models that only have to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from lcve_deploy import Client, SecurityKey
from lcve_deploy.artifact import Probe, write_probe
from lcve_deploy.model.parity import CONTROLS, ParityReport
from lcve_deploy.verbs._keys import KeyContent
from lcve_deploy.verbs.export import ExportOptions


def export_without_parity(
    checkpoint: Path, output: Path, key: SecurityKey, options: ExportOptions | None = None
) -> None:
    """The export as it is, files digested and on the disk, but for what compares: reference, session, probe."""
    from lcve_deploy.verbs import export as verb

    report = ParityReport(
        reference="none",
        clips=1,
        tolerance=1e-4,
        max_difference=0.0,
        mean_difference=0.0,
        logit_scale=1.0,
        top1_agreement=1.0,
        top5_agreement=1.0,
        controls=dict.fromkeys(CONTROLS, 1.0),
    )

    def unchecked(
        server: Path, _: object, client: Client, tensors: dict[str, Any], *__: object
    ) -> tuple[ParityReport, KeyContent]:
        binding, classes = client.settings.binding, len(client.settings.classes)
        clip = np.zeros((2, *binding.layout.shape(binding.geometry)), np.uint8)
        content = KeyContent(
            orders=client.orders,
            layout=binding.layout,
            tensors=tensors,
            probe=Probe(clip=clip, logits=np.zeros((2, classes))),
        )
        write_probe(server, content.under_no_key().as_model_probe())
        return report, content

    with mock.patch.object(verb, "_plain_model"), mock.patch.object(verb, "_check", unchecked):
        verb.export(checkpoint, output, key=key, options=options)
