"""Table of the weight names of video families, in the notation of ``image_layouts``.

Source: Hugging Face transformers, ``modeling_vjepa2.py`` and ``modeling_timesformer.py``.
"""

from __future__ import annotations

from typing import Final

from lcve_deploy.exporters.checkpoints.image_layouts import Row, expand
from lcve_deploy.exporters.checkpoints.layouts import Names

__all__ = ["TIMESFORMER", "VJEPA2", "VJEPA2_POOLER"]

_LAYERS: Final = ("encoder.layer.{i}.",)
_HEAD: Final[Row] = ("head.*", "classifier.*")


def _three(before: str, names: tuple[str, str, str]) -> Names:
    return tuple(f"{before}{name}.*" for name in names)


TIMESFORMER: Final = expand(
    ("cube_embedding.*", "{body}embeddings.patch_embeddings.projection.*"),
    ("prefix_tokens", "{body}embeddings.cls_token"),
    ("positional_encoding", "{body}embeddings.positions"),
    ("blocks.{i}.norm1.*", "{body}{layer}layernorm_before.*"),
    ("blocks.{i}.attention.qkv.*", "{body}{layer}attention.attention.qkv.*"),
    ("blocks.{i}.attention.projection.*", "{body}{layer}attention.output.dense.*"),
    ("blocks.{i}.norm2.*", "{body}{layer}layernorm_after.*"),
    ("blocks.{i}.mlp.fc1.*", "{body}{layer}intermediate.dense.*"),
    ("blocks.{i}.mlp.fc2.*", "{body}{layer}output.dense.*"),
    ("norm.*", "{body}layernorm.*"),
    _HEAD,
    bodies=("timesformer.", ""),
    layers=_LAYERS,
)

VJEPA2: Final = expand(
    ("cube_embedding.*", "{body}encoder.embeddings.patch_embeddings.proj.*"),
    ("blocks.{i}.norm1.*", "{body}{layer}norm1.*"),
    ("blocks.{i}.attention.qkv.*", _three("{body}{layer}attention.", ("query", "key", "value"))),
    ("blocks.{i}.attention.projection.*", "{body}{layer}attention.proj.*"),
    ("blocks.{i}.norm2.*", "{body}{layer}norm2.*"),
    ("blocks.{i}.mlp.fc1.*", "{body}{layer}mlp.fc1.*"),
    ("blocks.{i}.mlp.fc2.*", "{body}{layer}mlp.fc2.*"),
    ("norm.*", "{body}encoder.layernorm.*"),
    bodies=("vjepa2.", ""),
    layers=_LAYERS,
)
VJEPA2_POOLER: Final = expand(
    ("pooler.blocks.{i}.norm1.*", "{layer}layer_norm1.*"),
    ("pooler.blocks.{i}.attention.qkv.*", _three("{layer}self_attn.", ("q_proj", "k_proj", "v_proj"))),
    ("pooler.blocks.{i}.attention.projection.*", "{layer}self_attn.out_proj.*"),
    ("pooler.blocks.{i}.norm2.*", "{layer}layer_norm2.*"),
    ("pooler.blocks.{i}.mlp.fc1.*", "{layer}mlp.fc1.*"),
    ("pooler.blocks.{i}.mlp.fc2.*", "{layer}mlp.fc2.*"),
    ("pooler.norm1.*", "{body}layer_norm1.*"),
    ("pooler.query", "{body}query"),
    ("pooler.residual", "pooler.query_tokens"),
    ("pooler.kv.*", ("{body}cross_attn.k_proj.*", "{body}cross_attn.v_proj.*")),
    ("pooler.norm2.*", "{body}layer_norm2.*"),
    ("pooler.mlp.fc1.*", "{body}mlp.fc1.*"),
    ("pooler.mlp.fc2.*", "{body}mlp.fc2.*"),
    _HEAD,
    bodies=("pooler.cross_attention_layer.",),
    layers=("pooler.self_attention_layers.{i}.",),
)
