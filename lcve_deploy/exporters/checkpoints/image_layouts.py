"""Table of the weight names of each image family, used by ``assemble``.

A row has a weight of this package and the names that it is made from, in order of preference; names in a tuple are
concatenated. In a row, ``*`` is ``weight`` and then ``bias``, ``{body}`` a prefix that a file may have or not,
``{layer}`` the place of a block in versions 4 and 5 of transformers, and ``{i}`` the number of the block.

Source: Hugging Face transformers, ``modeling_*.py``; ``conversion_mapping.py`` for the names of version 4.
"""

from __future__ import annotations

from typing import Final

from lcve_deploy.exporters.checkpoints.layouts import ZEROS, Names, Rule

__all__ = ["BEIT", "CLIP", "CLIP_PROJECTION", "DATA2VEC", "DEIT", "DINOV2", "DINOV2_REGISTERS", "DINOV3"]
__all__ += ["IJEPA", "SIGLIP", "SIGLIP_POOLER", "VIT", "Row", "expand"]

Row = tuple[str, *tuple[str | Names, ...]]

_ONE: Final = ("",)
_VIT_LAYERS: Final = ("encoder.layer.{i}.", "layers.{i}.")
_CLIP_BODIES: Final = ("vision_model.", "")


def expand(*rows: Row, bodies: Names = _ONE, layers: Names = _ONE) -> tuple[Rule, ...]:
    """Return the rules of a table.

    Args:
        rows: rows as in the docstring of this module.
        bodies: alternatives of ``{body}``.
        layers: alternatives of ``{layer}``.
    """
    rules = []
    for target, *sources in rows:
        groups = [(source,) if isinstance(source, str) else source for source in sources]
        for kind in ("weight", "bias") if "*" in target else _ONE:
            names = [
                tuple(_filled(name, body, layer, kind) for name in group)
                for group in groups
                for body in bodies
                for layer in layers
            ]
            rules.append(Rule(target.replace("*", kind), tuple(dict.fromkeys(names))))
    return tuple(rules)


def _filled(name: str, body: str, layer: str, kind: str) -> str:
    return name.replace("{body}", body).replace("{layer}", layer).replace("*", kind)


def _three(before: str, names: tuple[str, str, str]) -> Names:
    """Return the names of queries, keys and values."""
    return tuple(f"{{body}}{{layer}}{before}{name}.*" for name in names)


_QKV: Final = (
    _three("attention.attention.", ("query", "key", "value")),
    _three("attention.", ("q_proj", "k_proj", "v_proj")),
)
_HEAD: Final[Row] = ("head.*", "classifier.*")
_EMBEDDING: Final[Row] = ("cube_embedding.*", "{body}embeddings.patch_embeddings.projection.*")
_TABLE: Final[Row] = ("positional_encoding", "{body}embeddings.position_embeddings")
_CLASS: Final[Row] = ("prefix_tokens", "{body}embeddings.cls_token")
_FINAL: Final[Row] = ("norm.*", "{body}layernorm.*")
_PROJECTION: Final[Row] = (
    "blocks.{i}.attention.projection.*",
    "{body}{layer}attention.output.dense.*",
    "{body}{layer}attention.o_proj.*",
)

_VIT_BLOCK: Final[tuple[Row, ...]] = (
    ("blocks.{i}.norm1.*", "{body}{layer}layernorm_before.*"),
    _PROJECTION,
    ("blocks.{i}.norm2.*", "{body}{layer}layernorm_after.*"),
    ("blocks.{i}.mlp.fc1.*", "{body}{layer}intermediate.dense.*", "{body}{layer}mlp.fc1.*"),
    ("blocks.{i}.mlp.fc2.*", "{body}{layer}output.dense.*", "{body}{layer}mlp.fc2.*"),
)
_VIT: Final[tuple[Row, ...]] = (
    _EMBEDDING,
    _TABLE,
    *_VIT_BLOCK,
    ("blocks.{i}.attention.qkv.*", *_QKV),
    _FINAL,
    _HEAD,
)

VIT: Final = expand(_CLASS, *_VIT, bodies=("vit.", ""), layers=_VIT_LAYERS)
DEIT: Final = expand(
    ("prefix_tokens", ("{body}embeddings.cls_token", "{body}embeddings.distillation_token")),
    *_VIT,
    bodies=("deit.", ""),
    layers=_VIT_LAYERS,
)
IJEPA: Final = expand(*_VIT, bodies=("ijepa.", ""), layers=_VIT_LAYERS)

_BUCKETS: Final = "relative_position_bias.relative_position_bias_table"


def _kind(names: Names, kind: str) -> Names:
    return tuple(name.replace("*", kind) for name in names)


def _beit(body: str) -> tuple[Rule, ...]:
    """Return the rules of BEiT, whose keys have no bias."""
    return expand(
        _CLASS,
        _EMBEDDING,
        _TABLE,
        *_VIT_BLOCK,
        ("blocks.{i}.attention.qkv.weight", *(_kind(names, "weight") for names in _QKV)),
        (
            "blocks.{i}.attention.qkv.bias",
            *((query, ZEROS, value) for query, _, value in (_kind(n, "bias") for n in _QKV)),
        ),
        ("blocks.{i}.scale1", "{body}{layer}lambda_1"),
        ("blocks.{i}.scale2", "{body}{layer}lambda_2"),
        (
            "blocks.{i}.attention.relative_bias",
            f"{{body}}{{layer}}attention.attention.{_BUCKETS}",
            f"{{body}}{{layer}}{_BUCKETS}",
            f"{{body}}encoder.{_BUCKETS}",
            "{body}shared_position_bias.relative_position_bias_table",
        ),
        ("norm.*", "{body}pooler.layernorm.*", "{body}layernorm.*"),
        _HEAD,
        bodies=(body, ""),
        layers=_VIT_LAYERS,
    )


BEIT: Final = _beit("beit.")
DATA2VEC: Final = _beit("data2vec_vision.")

_DINO_BLOCK: Final[tuple[Row, ...]] = (
    ("blocks.{i}.norm1.*", "{body}{layer}norm1.*"),
    ("blocks.{i}.norm2.*", "{body}{layer}norm2.*"),
    ("blocks.{i}.scale1", "{body}{layer}layer_scale1.lambda1"),
    ("blocks.{i}.scale2", "{body}{layer}layer_scale2.lambda1"),
)
_GATED: Final = ("{body}{layer}mlp.gate_proj.*", "{body}{layer}mlp.up_proj.*")
_DINOV2: Final[tuple[Row, ...]] = (
    _EMBEDDING,
    _TABLE,
    *_DINO_BLOCK,
    ("blocks.{i}.attention.qkv.*", *_QKV),
    _PROJECTION,
    ("blocks.{i}.mlp.fc1.*", "{body}{layer}mlp.fc1.*", "{body}{layer}mlp.weights_in.*", _GATED),
    ("blocks.{i}.mlp.fc2.*", *(f"{{body}}{{layer}}mlp.{name}.*" for name in ("fc2", "weights_out", "down_proj"))),
    _FINAL,
    _HEAD,
)
_REGISTERS: Final[Row] = ("prefix_tokens", ("{body}embeddings.cls_token", "{body}embeddings.register_tokens"))

DINOV2: Final = expand(_CLASS, *_DINOV2, bodies=("dinov2.", ""), layers=_VIT_LAYERS[:1])
DINOV2_REGISTERS: Final = expand(_REGISTERS, *_DINOV2, bodies=("dinov2_with_registers.", ""), layers=_VIT_LAYERS[:1])
DINOV3: Final = expand(
    _REGISTERS,
    ("cube_embedding.*", "embeddings.patch_embeddings.*"),
    *_DINO_BLOCK,
    ("blocks.{i}.attention.qkv.*", _QKV[1]),
    ("blocks.{i}.attention.projection.*", "{layer}attention.o_proj.*"),
    ("blocks.{i}.mlp.fc1.*", "{layer}mlp.up_proj.*", ("{layer}mlp.gate_proj.*", "{layer}mlp.up_proj.*")),
    ("blocks.{i}.mlp.fc2.*", "{layer}mlp.down_proj.*"),
    ("norm.*", "norm.*"),
    layers=("layer.{i}.", "model.layer.{i}."),
)

_CLIP_BLOCK: Final[tuple[Row, ...]] = (
    ("blocks.{i}.norm1.*", "{body}{layer}layer_norm1.*"),
    ("blocks.{i}.norm2.*", "{body}{layer}layer_norm2.*"),
    ("blocks.{i}.attention.qkv.*", _three("self_attn.", ("q_proj", "k_proj", "v_proj"))),
    ("blocks.{i}.attention.projection.*", "{body}{layer}self_attn.out_proj.*"),
    ("blocks.{i}.mlp.fc1.*", "{body}{layer}mlp.fc1.*"),
    ("blocks.{i}.mlp.fc2.*", "{body}{layer}mlp.fc2.*"),
    ("positional_encoding", "{body}embeddings.position_embedding.weight"),
    ("norm.*", "{body}post_layernorm.*"),
    _HEAD,
)
_CLIP_LAYERS: Final = ("encoder.layers.{i}.",)

CLIP: Final = expand(
    ("prefix_tokens", "{body}embeddings.class_embedding"),
    ("cube_embedding.weight", "{body}embeddings.patch_embedding.weight"),
    ("cube_embedding.bias", ZEROS),
    ("norm_pre.*", "{body}pre_layrnorm.*"),
    *_CLIP_BLOCK,
    bodies=_CLIP_BODIES,
    layers=_CLIP_LAYERS,
)
CLIP_PROJECTION: Final = expand(("projection.weight", "visual_projection.weight"), ("projection.bias", ZEROS))
SIGLIP: Final = expand(
    ("cube_embedding.*", "{body}embeddings.patch_embedding.*"), *_CLIP_BLOCK, bodies=_CLIP_BODIES, layers=_CLIP_LAYERS
)
SIGLIP_POOLER: Final = expand(
    ("pooler.query", "{body}head.query"),
    ("pooler.kv.*", "{body}head.kv.*"),
    ("pooler.projection.*", "{body}head.attention.out_proj.*"),
    ("pooler.norm2.*", "{body}head.layernorm.*"),
    ("pooler.mlp.fc1.*", "{body}head.mlp.fc1.*"),
    ("pooler.mlp.fc2.*", "{body}head.mlp.fc2.*"),
    bodies=_CLIP_BODIES,
)
