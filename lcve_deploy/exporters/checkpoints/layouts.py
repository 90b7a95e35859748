"""Table of the weight names of each checkpoint family, used by ``assemble``.

A rule has the name of a weight in this package and, in order of preference, the source names that it is made from.
Several source names are concatenated along the rows. ``ZEROS`` stands for a part that the family does not have:
VideoMAE's keys have no bias, except in files written by transformers 5.7 to 5.17. ``{i}`` is the number of the block.

Sources: MCG-NJU/VideoMAE and OpenGVLab/VideoMAEv2 (``modeling_finetune.py``); Hugging Face
transformers (``modeling_videomae.py``, ``modeling_vivit.py``; names of versions 4 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["ALL_LAYOUTS", "HF_VIDEOMAE", "HF_VIVIT", "OFFICIAL", "ZEROS", "Names", "Rule", "without"]

ZEROS: Final = "<zeros>"

Names = tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """Names of one weight.

    Args:
        target: name in this package.
        sources: alternatives, each a tuple of source names to concatenate.
    """

    target: str
    sources: tuple[Names, ...]


def without(absent: Sequence[str], rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return rules with zeros for source weights that a model does not have.

    Args:
        absent: ends of their names.
        rules: rules of the family.
    """
    ends = tuple(absent)
    return (
        tuple(
            Rule(
                rule.target,
                tuple(tuple(ZEROS if name.endswith(ends) else name for name in names) for names in rule.sources),
            )
            for rule in rules
        )
        if ends
        else tuple(rules)
    )


def _rules(*rows: tuple[str, *tuple[str | Names, ...]]) -> tuple[Rule, ...]:
    return tuple(
        Rule(target, tuple((source,) if isinstance(source, str) else source for source in sources))
        for target, *sources in rows
    )


OFFICIAL: Final = _rules(
    ("cube_embedding.weight", "patch_embed.proj.weight"),
    ("cube_embedding.bias", "patch_embed.proj.bias"),
    ("positional_encoding", "pos_embed"),
    ("prefix_tokens", "cls_token"),
    ("blocks.{i}.norm1.weight", "blocks.{i}.norm1.weight"),
    ("blocks.{i}.norm1.bias", "blocks.{i}.norm1.bias"),
    ("blocks.{i}.attention.qkv.weight", "blocks.{i}.attn.qkv.weight"),
    ("blocks.{i}.attention.qkv.bias", ("blocks.{i}.attn.q_bias", ZEROS, "blocks.{i}.attn.v_bias")),
    ("blocks.{i}.attention.log_scale", "blocks.{i}.attn.scale"),
    ("blocks.{i}.attention.projection.weight", "blocks.{i}.attn.proj.weight"),
    ("blocks.{i}.attention.projection.bias", "blocks.{i}.attn.proj.bias"),
    ("blocks.{i}.scale1", "blocks.{i}.gamma_1"),
    ("blocks.{i}.scale2", "blocks.{i}.gamma_2"),
    ("blocks.{i}.norm2.weight", "blocks.{i}.norm2.weight"),
    ("blocks.{i}.norm2.bias", "blocks.{i}.norm2.bias"),
    ("blocks.{i}.mlp.fc1.weight", "blocks.{i}.mlp.fc1.weight"),
    ("blocks.{i}.mlp.fc1.bias", "blocks.{i}.mlp.fc1.bias"),
    ("blocks.{i}.mlp.fc2.weight", "blocks.{i}.mlp.fc2.weight"),
    ("blocks.{i}.mlp.fc2.bias", "blocks.{i}.mlp.fc2.bias"),
    ("norm.weight", "fc_norm.weight", "norm.weight"),
    ("norm.bias", "fc_norm.bias", "norm.bias"),
    ("head.weight", "head.weight"),
    ("head.bias", "head.bias"),
)

_LAYER: Final = "{body}.encoder.layer.{{i}}."
_LAYER_5: Final = "{body}.layers.{{i}}."


def _hugging_face(body: str, *own: tuple[str, *tuple[str | Names, ...]]) -> tuple[Rule, ...]:
    """Return the rules that the video models of transformers share, with the names of versions 4 and 5.

    Args:
        body: prefix of the weights of the model without its classifier, such as ``vivit``.
        own: additional rules of one model type.
    """
    old, new = _LAYER.format(body=body), _LAYER_5.format(body=body)
    linear = {
        "attention.projection": ("attention.output.dense", "attention.o_proj"),
        "mlp.fc1": ("intermediate.dense", "mlp.fc1"),
        "mlp.fc2": ("output.dense", "mlp.fc2"),
        "norm1": ("layernorm_before", "layernorm_before"),
        "norm2": ("layernorm_after", "layernorm_after"),
    }
    shared = [
        (f"blocks.{{i}}.{ours}.{kind}", f"{old}{first}.{kind}", f"{new}{second}.{kind}")
        for ours, (first, second) in linear.items()
        for kind in ("weight", "bias")
    ]
    return _rules(
        ("cube_embedding.weight", f"{body}.embeddings.patch_embeddings.projection.weight"),
        ("cube_embedding.bias", f"{body}.embeddings.patch_embeddings.projection.bias"),
        (
            "blocks.{i}.attention.qkv.weight",
            tuple(f"{old}attention.attention.{part}.weight" for part in ("query", "key", "value")),
            tuple(f"{new}attention.{part}_proj.weight" for part in "qkv"),
        ),
        *shared,
        *own,
        ("head.weight", "classifier.weight"),
        ("head.bias", "classifier.bias"),
    )


_VIDEOMAE_LAYER, _VIDEOMAE_LAYER_5 = _LAYER.format(body="videomae"), _LAYER_5.format(body="videomae")
_VIVIT_LAYER, _VIVIT_LAYER_5 = _LAYER.format(body="vivit"), _LAYER_5.format(body="vivit")

HF_VIDEOMAE: Final = _hugging_face(
    "videomae",
    (
        "blocks.{i}.attention.qkv.bias",
        (f"{_VIDEOMAE_LAYER}attention.attention.q_bias", ZEROS, f"{_VIDEOMAE_LAYER}attention.attention.v_bias"),
        (f"{_VIDEOMAE_LAYER}attention.attention.query.bias", ZEROS, f"{_VIDEOMAE_LAYER}attention.attention.value.bias"),
        tuple(f"{_VIDEOMAE_LAYER}attention.attention.{part}.bias" for part in ("query", "key", "value")),  # 5.7 to 5.17
        (f"{_VIDEOMAE_LAYER_5}attention.q_proj.bias", ZEROS, f"{_VIDEOMAE_LAYER_5}attention.v_proj.bias"),
        tuple(f"{_VIDEOMAE_LAYER_5}attention.{part}_proj.bias" for part in "qkv"),
    ),
    ("norm.weight", "fc_norm.weight", "videomae.layernorm.weight"),
    ("norm.bias", "fc_norm.bias", "videomae.layernorm.bias"),
)

HF_VIVIT: Final = _hugging_face(
    "vivit",
    ("prefix_tokens", "vivit.embeddings.cls_token"),
    ("positional_encoding", "vivit.embeddings.position_embeddings"),
    (
        "blocks.{i}.attention.qkv.bias",
        tuple(f"{_VIVIT_LAYER}attention.attention.{part}.bias" for part in ("query", "key", "value")),
        tuple(f"{_VIVIT_LAYER_5}attention.{part}_proj.bias" for part in "qkv"),
    ),
    ("norm.weight", "vivit.layernorm.weight"),
    ("norm.bias", "vivit.layernorm.bias"),
)

ALL_LAYOUTS: Final = (OFFICIAL, HF_VIDEOMAE, HF_VIVIT)
"""The rules of every family, for code that does not know which one it reads."""
