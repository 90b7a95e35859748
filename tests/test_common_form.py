"""The common form of transformers: for any choice of its switches, the encrypted clip under the scrambled model gives
what the plain model gives for the plain clip.

The graph and the reference are written independently of each other. Weights are random, so each switch matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lcve_deploy import EncryptedClip, Layout, Orders, PlainClip, derive_orders, encrypt
from lcve_deploy.artifact import ModelSpec, TensorSpec
from lcve_deploy.artifact.model_spec import output_spec
from lcve_deploy.artifact.tensors import check_keyed
from lcve_deploy.cipher.rotation import rotate_tensors
from lcve_deploy.cipher.weights import scramble, unscrambled
from lcve_deploy.clips import SCHEME
from lcve_deploy.errors import ArtifactError, CheckpointError
from lcve_deploy.exporters.bank import bank_specs, keyed_tensors
from lcve_deploy.exporters.graph import attention
from lcve_deploy.exporters.low_precision import LOW_PRECISIONS, write_low_precision
from lcve_deploy.exporters.onnx import OPSETS, write_onnx
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import (
    Activation,
    Attention,
    FinalNorm,
    Norm,
    Pooler,
    QkNorm,
    Readout,
    TransformerConfig,
    VideoTransformer,
)
from lcve_deploy.runtime.backends.attention import fuse_attention
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from tests.conftest import SALT
from tests.support.common_form import (
    BEFORE,
    CASES,
    IMAGE,
    KEYS,
    POOLER,
    VIDEO,
    changed,
    clips_of,
    drawn,
    drawn_weights,
    in_plain_order,
    orders_of,
)

TOLERANCE = 2e-5

Arrays = Mapping[str, npt.NDArray[Any]]


def open_model(model: VideoTransformer, folder: Path, layout: Layout, opset: int = 20) -> OnnxRuntimeSession:
    """A session of the model's graph, with no key in it yet."""
    config = model.config
    path = folder / f"{layout}-{opset}.onnx"
    write_onnx(scramble(model, orders_of(config, KEYS[0])), path, layout=layout, opset=opset)
    clip = TensorSpec(name="clips", dtype="uint8", shape=(None, *layout.shape(config.geometry)))
    output = output_spec(ModelOutput.of(config))
    bank = bank_specs(config)
    spec = ModelSpec(scheme=SCHEME, geometry=config.geometry, layout=layout, input=clip, bank=bank, output=output)
    return OnnxRuntimeSession(path, spec)


def put_key(
    session: OnnxRuntimeSession, orders: Orders, clips: npt.NDArray[np.uint8], tensors: Arrays
) -> EncryptedClip:
    """Put a key into the bank, and return clips that are encrypted with it."""
    encrypted = encrypt(PlainClip(values=clips), orders, layout=session.model.layout)
    session.bank.put(encrypted.binding.key, tensors)
    return encrypted


def assert_same(received: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(received, expected, atol=TOLERANCE * scale, rtol=0)


def check(config: TransformerConfig, folder: Path, layout: Layout = Layout.CUBES, opset: int = 20) -> None:
    """Run two keys in one batch, the second one rotated from the first, and compare with the plain model."""
    model, clips = drawn(config), clips_of(config.geometry)
    expected = BuiltinReference(model).logits(clips)
    assert expected.shape == (len(clips), *config.output_shape)
    first, second = (orders_of(config, key) for key in KEYS)
    session = open_model(model, folder, layout, opset)
    tensors = keyed_tensors(scramble(model, first))
    rotated = rotate_tensors(tensors, first, second)
    for name, tensor in keyed_tensors(scramble(model, second)).items():
        np.testing.assert_array_equal(rotated[name], tensor)
    batch = [put_key(session, first, clips, tensors), put_key(session, second, clips, rotated)]
    outputs = np.split(session.run_batch(batch), 2)
    for output, orders in zip(outputs, (first, second), strict=True):
        assert_same(in_plain_order(output, config, orders), expected)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", CASES)
def test_every_switch_is_exact(name: str, layout: Layout, tmp_path: Path) -> None:
    check(CASES[name], tmp_path, layout)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_is_exact(opset: int, tmp_path: Path) -> None:
    check(changed(positions=False, rotary=True, norm=Norm.RMS, gated=True, relative_buckets=5), tmp_path, opset=opset)


@pytest.mark.parametrize("name", ["rotary", "V-JEPA 2", "relative positions", "RMS by head"])
def test_blocks_of_queries_are_exact(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MAX_SCORES", 40)
    assert len(attention.block_sizes(CASES[name].tokens, heads=CASES[name].heads)) > 1
    check(CASES[name], tmp_path)


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "class token": ({"readout": Readout.CLASS_TOKEN}, "needs 1 prefix tokens, the model has 0"),
    "pair": ({"readout": Readout.PREFIX_PAIR, "prefix": 1, "final_norm": BEFORE}, "needs 2 prefix tokens"),
    "norm of a pair": ({"readout": Readout.CLASS_AND_MEAN, "prefix": 1}, "no single vector"),
    "norm of tokens": ({"readout": Readout.TOKENS}, "no single vector"),
    "no positions": ({"positions": False}, "without any positions"),
    "odd heads": ({"rotary": True, "width": 30}, "even width, received 15"),
    "cosine": ({"rotary": True, "attention": Attention.COSINE}, "cosine attention"),
    "features": ({"head": False}, "gives 16 values, not 5"),
    "a pooler too many": ({"pooler": POOLER}, "belongs to the readout attention"),
    "no pooler": ({"readout": Readout.ATTENTION}, "belongs to the readout attention"),
    "heads of the pooler": ({"readout": Readout.ATTENTION, "pooler": Pooler(heads=3)}, "must divide the width 16"),
    "blocks of the pooler": ({"readout": Readout.ATTENTION, "pooler": Pooler(heads=2, depth=1)}, "an MLP of width 0"),
    "counts": ({"prefix": -1}, "must not be negative"),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_configuration_that_does_not_fit_together_is_one_clear_error(name: str) -> None:
    values, text = INVALID[name]
    with pytest.raises(CheckpointError, match=text):
        changed(**values)


@pytest.mark.parametrize(("entry", "text"), [(-1, "outside 0 to 8"), (9, "outside 0 to 8"), (0.5, "expected int64")])
def test_a_relative_index_is_checked(entry: float, text: str) -> None:
    config = CASES["relative positions"]
    weights = dict(drawn_weights(config))
    index = weights["relative_position.index"]
    weights["relative_position.index"] = np.where(index == index[0, 0], entry, index)
    with pytest.raises(CheckpointError, match=text):
        VideoTransformer(config=config, weights=weights)


@pytest.mark.parametrize("entry", [-1, 9**2])
def test_an_index_of_a_key_folder_is_checked(entry: int, tmp_path: Path) -> None:
    model = drawn(CASES["relative positions"])
    spec, tensors = open_model(model, tmp_path, Layout.CUBES).model, keyed_tensors(unscrambled(model))
    check_keyed(tensors, spec, tmp_path)
    wrong = tensors["relative_position.index"].copy()
    wrong[3, 4] = entry
    with pytest.raises(ArtifactError, match="has entries from"):
        check_keyed({**tensors, "relative_position.index": wrong}, spec, tmp_path)


def test_a_model_without_a_classifier_has_no_label_order() -> None:
    model = drawn(CASES["features"])
    orders = derive_orders(KEYS[0], salt=SALT, geometry=VIDEO, classes=16)
    with pytest.raises(ValueError, match="without a classifier"):
        scramble(model, orders)


@pytest.mark.parametrize("precision", ["fp32", *LOW_PRECISIONS])
@pytest.mark.parametrize("name", ["rotary", "V-JEPA 2", "RMS", "RMS by head", "gated"])
def test_attention_is_fused_in_every_precision(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MAX_SCORES", 40)
    config = CASES[name]
    path = tmp_path / "fp32.onnx"
    write_onnx(unscrambled(drawn(config)), path, layout=Layout.CUBES)
    if precision in LOW_PRECISIONS:
        path = tmp_path / f"{precision}.onnx"
        write_low_precision(tmp_path / "fp32.onnx", path, Precision(precision))
    graph = onnx.ModelProto.FromString(fuse_attention(path.read_bytes())).graph
    fused = [node for node in graph.node if node.op_type == "MultiHeadAttention"]
    assert len(fused) == config.depth + (config.pooler.depth if config.pooler else 0)


def test_blocks_share_the_relative_positions_that_they_have_in_common(tmp_path: Path) -> None:
    """One look-up for all blocks of BEiT's shared table, one for each block otherwise."""
    config = CASES["relative positions"]
    weights = dict(drawn_weights(config))
    counts = []
    for shared in (False, True):
        if shared:
            weights["blocks.1.attention.relative_bias"] = weights["blocks.0.attention.relative_bias"]
        path = tmp_path / f"{shared}.onnx"
        model = VideoTransformer(config=config, weights=weights)
        write_onnx(unscrambled(model), path, layout=Layout.CUBES)
        names = {value.name for value in onnx.load(path).graph.initializer}
        counts.append(sum(name.endswith("relative_bias") for name in names))
    assert counts == [2, 1]


_SWITCHES = {
    "geometry": st.sampled_from([VIDEO, IMAGE]),
    "heads": st.sampled_from([1, 2, 4]),
    "attention": st.sampled_from(Attention),
    "activation": st.sampled_from(Activation),
    "readout": st.sampled_from(Readout),
    "qkv_bias": st.booleans(),
    "layer_scale": st.booleans(),
    "prefix": st.integers(0, 3),
    "positions": st.booleans(),
    "rotary": st.booleans(),
    "relative_buckets": st.sampled_from([0, 0, 7]),
    "norm": st.sampled_from(Norm),
    "qk_norm": st.sampled_from(QkNorm),
    "qk_norm_kind": st.sampled_from(Norm),
    "attention_norm": st.booleans(),
    "embedding_norm": st.booleans(),
    "final_norm": st.sampled_from(FinalNorm),
    "gated": st.booleans(),
    "mlp_norm": st.booleans(),
    "projection": st.sampled_from([0, 0, 6]),
    "unit": st.booleans(),
    "head": st.booleans(),
}
_POOLERS = st.builds(
    Pooler,
    heads=st.sampled_from([1, 2, 4]),
    hidden=st.sampled_from([8, 12]),
    depth=st.integers(0, 2),
    input_norm=st.booleans(),
    residual=st.booleans(),
    projection=st.booleans(),
)


@st.composite
def configurations(draw: st.DrawFn) -> TransformerConfig:
    values = {name: draw(strategy) for name, strategy in _SWITCHES.items()}
    if values["readout"] is Readout.ATTENTION:
        values["pooler"] = draw(_POOLERS)
    width = values["projection"] or 16 * (values["readout"] in (Readout.CLASS_AND_MEAN, Readout.PREFIX_PAIR)) + 16
    try:
        return changed(depth=1, classes=5 if values["head"] else width, **values)
    except CheckpointError:
        assume(False)
        raise


@settings(deadline=None, max_examples=60)
@given(config=configurations(), layout=st.sampled_from(Layout))
def test_every_combination_is_exact(
    config: TransformerConfig, layout: Layout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(config, tmp_path_factory.mktemp("model"), layout)
