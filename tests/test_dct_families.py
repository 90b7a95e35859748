"""Every switch of the common form under ``lcve-dct-1``: exact on the decrypted clip, for two keys in one batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import Layout, Orders, PlainClip, decrypt, derive_orders, encrypt
from lcve_deploy.artifact import ModelSpec
from lcve_deploy.artifact.model_spec import clip_specs, output_spec
from lcve_deploy.cipher.rotation import rotate_tensors
from lcve_deploy.cipher.weights import scramble
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.bank import bank_specs, keyed_tensors
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.model.transformer import TransformerConfig
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from tests.conftest import SALT
from tests.support.common_form import CASES, KEYS, clips_of, drawn, in_plain_order, orders_of
from tests.test_common_form import assert_same


def coefficient_orders(config: TransformerConfig, number: int) -> Orders:
    raw = orders_of(config, KEYS[number])
    classes = None if raw.label_order is None else len(raw.label_order)
    return derive_orders(KEYS[number], salt=SALT, geometry=config.geometry, classes=classes, scheme=Scheme.DCT)


@pytest.mark.parametrize("name", CASES)
def test_every_switch_is_exact_on_the_decrypted_clip(name: str, tmp_path: Path) -> None:
    config = CASES[name]
    model, clips = drawn(config), PlainClip(values=clips_of(config.geometry))
    first, second = (coefficient_orders(config, number) for number in range(2))
    write_onnx(scramble(model, first), tmp_path / "model.onnx", layout=Layout.CUBES, scheme=Scheme.DCT)
    spec = ModelSpec(
        scheme=Scheme.DCT,
        geometry=config.geometry,
        layout=Layout.CUBES,
        input=clip_specs(Scheme.DCT, config.geometry, Layout.CUBES)[0],
        bank=bank_specs(config),
        output=output_spec(ModelOutput.of(config)),
    )
    session = OnnxRuntimeSession(tmp_path / "model.onnx", spec)
    tensors = keyed_tensors(scramble(model, first))
    rotated = rotate_tensors(tensors, first, second)
    for tensor, values in keyed_tensors(scramble(model, second)).items():
        np.testing.assert_array_equal(rotated[tensor], values)
    batch = [encrypt(clips, orders, step=step) for orders, step in ((first, 8.0), (second, 30.0))]
    for encrypted, keyed in zip(batch, (tensors, rotated), strict=True):
        session.bank.put(encrypted.binding.key, keyed)
    for encrypted, orders, output in zip(batch, (first, second), np.split(session.run_batch(batch), 2), strict=True):
        expected = BuiltinReference(model).logits(decrypt(encrypted, orders).values)
        assert_same(in_plain_order(output, config, orders), expected)
