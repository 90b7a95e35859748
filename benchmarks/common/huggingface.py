"""The same weights as a transformers folder, for tools that start from one."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.common.models import Size, random_weights

_BLOCK = {
    "norm1.weight": "layernorm_before.weight",
    "norm1.bias": "layernorm_before.bias",
    "norm2.weight": "layernorm_after.weight",
    "norm2.bias": "layernorm_after.bias",
    "attn.q_bias": "attention.attention.q_bias",
    "attn.v_bias": "attention.attention.v_bias",
    "attn.proj.weight": "attention.output.dense.weight",
    "attn.proj.bias": "attention.output.dense.bias",
    "mlp.fc1.weight": "intermediate.dense.weight",
    "mlp.fc1.bias": "intermediate.dense.bias",
    "mlp.fc2.weight": "output.dense.weight",
    "mlp.fc2.bias": "output.dense.bias",
}
_TOP = {
    "patch_embed.proj.weight": "videomae.embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "videomae.embeddings.patch_embeddings.projection.bias",
    "fc_norm.weight": "fc_norm.weight",
    "fc_norm.bias": "fc_norm.bias",
    "head.weight": "classifier.weight",
    "head.bias": "classifier.bias",
}


def save_folder(size: Size, folder: Path) -> None:
    """Write config and weights of the model that :func:`benchmarks.common.models.videomae` has."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    config = {
        "architectures": ["VideoMAEForVideoClassification"],
        "model_type": "videomae",
        "image_size": size.pixels,
        "patch_size": size.cube[1],
        "num_frames": size.frames,
        "tubelet_size": size.cube[0],
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.heads,
        "intermediate_size": size.hidden,
        "layer_norm_eps": 1e-6,
        "use_mean_pooling": True,
        "id2label": {str(i): f"class {i}" for i in range(size.classes)},
        "label2id": {f"class {i}": i for i in range(size.classes)},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(_renamed(random_weights(size)), folder / "model.safetensors", metadata={"format": "pt"})


def _renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {_TOP[name]: tensor for name, tensor in weights.items() if name in _TOP}
    for name, tensor in weights.items():
        if not name.startswith("blocks."):
            continue
        _, number, rest = name.split(".", 2)
        prefix = f"videomae.encoder.layer.{number}"
        if rest == "attn.qkv.weight":
            for side, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"{prefix}.attention.attention.{side}.weight"] = part.contiguous()
        else:
            renamed[f"{prefix}.{_BLOCK[rest]}"] = tensor
    return renamed
