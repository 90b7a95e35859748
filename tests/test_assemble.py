"""A family's weights become ours without a model: values, joined parts, and every problem by its name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.assemble import assemble, block_count, require_finite
from lcve_deploy.exporters.checkpoints.layouts import HF_VIDEOMAE, HF_VIVIT, OFFICIAL
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import Attention, Readout, TransformerConfig, weight_shapes

WIDTH, HIDDEN, CLASSES, DEPTH = 4, 6, 3, 2
CONFIG = TransformerConfig(
    geometry=ClipGeometry.parse("4x8x8x3/2x4x4"), width=WIDTH, depth=DEPTH, heads=2, hidden=HIDDEN, classes=CLASSES
)
FULL = dataclasses.replace(CONFIG, attention=Attention.COSINE, layer_scale=True, readout=Readout.CLASS_TOKEN, prefix=1)
KERNEL = (WIDTH, 3, 2, 4, 4)

Weights = dict[str, np.ndarray]


def filled(shapes: dict[str, tuple[int, ...]]) -> Weights:
    """Weights whose values all differ."""
    numbers = iter(range(10**6))
    return {
        name: np.fromiter(numbers, np.float32, count=int(np.prod(shape))).reshape(shape)
        for name, shape in shapes.items()
    }


def official(config: TransformerConfig = CONFIG) -> Weights:
    """The weights of an official file."""
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.proj.weight": KERNEL, "patch_embed.proj.bias": (WIDTH,)}
    shapes |= {"pos_embed": (1, config.tokens, WIDTH), "fc_norm.weight": (WIDTH,), "fc_norm.bias": (WIDTH,)}
    shapes |= {"head.weight": (CLASSES, WIDTH), "head.bias": (CLASSES,)}
    block: dict[str, tuple[int, ...]] = {
        **{f"norm{n}.{kind}": (WIDTH,) for n in (1, 2) for kind in ("weight", "bias")},
        **{"attn.qkv.weight": (3 * WIDTH, WIDTH), "attn.q_bias": (WIDTH,), "attn.v_bias": (WIDTH,)},
        **{"attn.proj.weight": (WIDTH, WIDTH), "attn.proj.bias": (WIDTH,)},
        **{"mlp.fc1.weight": (HIDDEN, WIDTH), "mlp.fc1.bias": (HIDDEN,)},
        **{"mlp.fc2.weight": (WIDTH, HIDDEN), "mlp.fc2.bias": (WIDTH,)},
    }
    if config.layer_scale:
        block |= {"gamma_1": (WIDTH,), "gamma_2": (WIDTH,)}
    if config.attention is Attention.COSINE:
        block["attn.scale"] = (config.heads, 1, 1)
    if config.prefix:
        shapes["cls_token"] = (1, 1, WIDTH)
    return filled(shapes | {f"blocks.{i}.{name}": shape for i in range(DEPTH) for name, shape in block.items()})


def said(source: Weights, config: TransformerConfig = CONFIG) -> str:
    """What is said of weights that make no model, without its beginning."""
    with pytest.raises(CheckpointError) as caught:
        assemble(source, OFFICIAL, config)
    text = str(caught.value)
    assert text.startswith("the checkpoint's weights do not match the model: ")
    return text.removeprefix("the checkpoint's weights do not match the model: ")


@pytest.mark.parametrize("config", [CONFIG, FULL], ids=["plain", "full"])
def test_every_weight_has_its_shape_and_its_values(config: TransformerConfig) -> None:
    source = official(config)
    made = assemble(source, OFFICIAL, config)
    assert {name: weight.shape for name, weight in made.items()} == weight_shapes(config)
    zeros = np.concatenate([np.zeros(DEPTH * WIDTH, np.float32)])
    values = np.sort(np.concatenate([*(weight.ravel() for weight in made.values())]))
    expected = np.sort(np.concatenate([*(weight.ravel() for weight in source.values()), zeros]))
    np.testing.assert_array_equal(values, expected)


def test_weights_of_a_block_stay_in_it() -> None:
    source = official(FULL)
    made = assemble(source, OFFICIAL, FULL)
    for i in range(DEPTH):
        here, there = f"blocks.{i}.", f"blocks.{i}.attn."
        np.testing.assert_array_equal(made[f"{here}mlp.fc1.weight"], source[f"{here}mlp.fc1.weight"])
        np.testing.assert_array_equal(made[f"{here}scale2"], source[f"{here}gamma_2"])
        np.testing.assert_array_equal(made[f"{here}attention.log_scale"], source[f"{there}scale"].ravel())


def test_keys_have_no_bias_between_those_of_queries_and_values() -> None:
    source = official()
    bias = assemble(source, OFFICIAL, CONFIG)["blocks.1.attention.qkv.bias"]
    parts = [source["blocks.1.attn.q_bias"], np.zeros(WIDTH), source["blocks.1.attn.v_bias"]]
    np.testing.assert_array_equal(bias, np.concatenate(parts))


def test_columns_of_the_embedding_are_in_the_order_of_a_cubes_values() -> None:
    source = official()
    embedding = assemble(source, OFFICIAL, CONFIG)["cube_embedding.weight"].reshape(WIDTH, 2, 4, 4, 3)
    kernel = source["patch_embed.proj.weight"]
    for t, h, w, c in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 3, 0, 0), (0, 0, 2, 0), (0, 0, 0, 2), (1, 2, 3, 1)):
        np.testing.assert_array_equal(embedding[:, t, h, w, c], kernel[:, c, t, h, w])


def test_weights_are_not_copied_where_that_is_possible() -> None:
    source = official()
    made = assemble(source, OFFICIAL, CONFIG)
    assert np.shares_memory(made["head.weight"], source["head.weight"])
    assert np.shares_memory(made["positional_encoding"], source["pos_embed"])


def test_parts_are_joined_in_their_order() -> None:
    parts: dict[str, tuple[int, ...]] = {
        f"vivit.encoder.layer.0.attention.attention.{part}.weight": (WIDTH, WIDTH) for part in ("query", "key", "value")
    }
    source = filled(parts)
    rules = tuple(rule for rule in HF_VIVIT if rule.target == "blocks.{i}.attention.qkv.weight")
    made = assemble(source, rules, dataclasses.replace(CONFIG, depth=1))
    np.testing.assert_array_equal(made["blocks.0.attention.qkv.weight"], np.arange(3 * WIDTH**2).reshape(-1, WIDTH))


def test_of_two_alternatives_the_one_that_is_there_is_taken() -> None:
    source = official()
    norm = {name.removeprefix("fc_"): source.pop(name) for name in ("fc_norm.weight", "fc_norm.bias")}
    made = assemble(source | norm, OFFICIAL, CONFIG)
    np.testing.assert_array_equal(made["norm.weight"], norm["norm.weight"])
    assert "unexpected norm.weight" in said(official() | norm)


def test_what_is_missing_is_named_in_the_form_that_there_is_most_of() -> None:
    layer = "videomae.layers.0.attention"
    rules = tuple(rule for rule in HF_VIDEOMAE if rule.target == "blocks.{i}.attention.qkv.bias")
    source = filled({f"{layer}.{part}_proj.bias": (WIDTH,) for part in "qk"})
    with pytest.raises(CheckpointError, match=f"missing {layer}.v_proj.bias"):
        assemble(source, rules, dataclasses.replace(CONFIG, depth=1))


@pytest.mark.parametrize("name", sorted(official(FULL)))
def test_a_missing_weight_is_named(name: str) -> None:
    source = official(FULL)
    del source[name]
    text = said(source, FULL)
    assert f"missing {name}" in text
    assert text.count("missing") == 1


@pytest.mark.parametrize("name", [name for name in sorted(official(FULL)) if name != "patch_embed.proj.weight"])
def test_a_weight_of_another_shape_is_named(name: str) -> None:
    source = official(FULL)
    shape = source[name].shape
    source[name] = np.zeros((shape[0] + 1, *shape[1:]), np.float32)
    text = said(source, FULL)
    assert name in text
    assert ": shape [" in text
    assert "; " not in text


def test_the_shapes_are_said() -> None:
    source = official() | {"head.weight": np.zeros((CLASSES, WIDTH + 1))}
    assert said(source) == "head.weight: shape [3, 5], expected [3, 4]"
    source = official() | {"blocks.0.attn.q_bias": np.zeros(WIDTH + 1, np.float32)}
    assert said(source) == "blocks.0.attn.q_bias + blocks.0.attn.v_bias: shape [14], expected [12]"


@pytest.mark.parametrize(
    "shape",
    [
        (WIDTH, 96),
        (WIDTH, 3, 2, 4, 4, 1),
        (WIDTH, 3, 2, 4, 5),
        (WIDTH + 1, 3, 2, 4, 4),
        (WIDTH, 2, 4, 4, 3),
        (3, WIDTH, 2, 4, 4),
        (WIDTH, 3, 2, 2, 8),
    ],
)
def test_a_kernel_that_makes_no_cubes_is_refused(shape: tuple[int, ...]) -> None:
    text = said(official() | {"patch_embed.proj.weight": np.zeros(shape, np.float32)})
    expected = f"expected [width, channels, t, h, w] = {[WIDTH, 3, 2, 4, 4]}"
    assert text == f"patch_embed.proj.weight: shape {list(shape)}, {expected}"


@pytest.mark.parametrize(("strange", "more"), [(1, ""), (12, ""), (13, "; and 1 more"), (15, "; and 3 more")])
def test_twelve_problems_are_named_and_the_others_counted(strange: int, more: str) -> None:
    text = said(official() | {f"w{i}": np.zeros(1) for i in range(strange)})
    assert text == "; ".join(f"unexpected w{i}" for i in range(min(strange, 12))) + more


def test_values_that_are_not_finite_are_named() -> None:
    require_finite(official())
    bad = {f"w{i}": np.array([0, value]) for i, value in enumerate((np.nan, np.inf, -np.inf))}
    with pytest.raises(CheckpointError, match=r"NaN or infinity in: w0, w1, w2$"):
        require_finite(official() | bad)
    with pytest.raises(CheckpointError, match=r": w0, .*, w11$"):
        require_finite({f"w{i}": np.array([np.nan]) for i in range(20)})


def test_blocks_are_counted_by_their_largest_number() -> None:
    pattern = r"blocks\.(\d+)\."
    assert block_count([], pattern) == 0
    assert block_count(["blocks.0.x"], pattern) == 1
    assert block_count(["blocks.0.x", "blocks.11.x", "blocks.2.x", "head.blocks.30.x", "x"], pattern) == 12


def test_what_is_missing_is_named_for_every_block() -> None:
    source = official()
    for i in range(DEPTH):
        del source[f"blocks.{i}.mlp.fc1.bias"], source[f"blocks.{i}.norm1.bias"]
    names = [f"missing blocks.{i}.{name}" for name in ("norm1.bias", "mlp.fc1.bias") for i in range(DEPTH)]
    assert said(source) == "; ".join(names)
