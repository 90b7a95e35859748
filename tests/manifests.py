"""A manifest made in memory, for tests of its readers that need no model."""

from __future__ import annotations

import dataclasses

from lcve_deploy.artifact import Manifest
from lcve_deploy.artifact.digests import FileRecord
from lcve_deploy.artifact.model_spec import ModelSpec, TensorSpec
from lcve_deploy.clips import KeyRef, Layout
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.parity import CONTROLS, ParityReport

KEY_REF = KeyRef(key_id="0" * 31 + "1", salt="2" * 32)
RECORD = FileRecord(bytes=7, sha256="ab" * 32)
MANIFEST = Manifest(
    model=ModelSpec(
        scheme="lcve-1",
        geometry=ClipGeometry.parse("8x32x32x3/2x8x8"),
        layout=Layout.CUBES,
        input=TensorSpec(name="clips", dtype="uint8", shape=(None, 64, 384)),
        bank=(
            TensorSpec(name="bank.cube_embedding.weight", dtype="float32", shape=(None, 384, 48)),
            TensorSpec(name="bank.positional_encoding", dtype="float32", shape=(None, 65, 48)),
            TensorSpec(name="bank.readout.index", dtype="int64", shape=(None,)),
            TensorSpec(name="bank.head.weight", dtype="float32", shape=(None, 48, 5)),
            TensorSpec(name="bank.head.bias", dtype="float32", shape=(None, 5)),
        ),
        output=TensorSpec(name="logits", dtype="float32", shape=(None, 5)),
    ),
    precision="fp32",
    opset=20,
    files={"model.onnx": RECORD, "probe.safetensors": dataclasses.replace(RECORD, bytes=0)},
    parity=ParityReport(
        reference="built-in PyTorch, float64",
        clips=1,
        tolerance=1e-4,
        max_difference=1e-6,
        mean_difference=1e-7,
        logit_scale=0.5,
        top1_agreement=1.0,
        top5_agreement=1.0,
        controls=dict.fromkeys(CONTROLS, 3.0),
    ),
    made_by={"lcve-deploy": "0.1.0"},
)
BINDING = MANIFEST.model.binding_of(KEY_REF)
"""Binding of the clips of a key of this model."""
