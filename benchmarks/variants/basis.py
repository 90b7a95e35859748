"""The strongest exact variant: the client sends tokens in a secret basis, in a fresh order for every clip.

The client embeds the cubes and adds the positions itself. The server gets the blocks alone, rewritten so that they
compute in the secret basis; heads and hidden units are in secret bases and orders of their own. LayerNorm allows every
rotation of the residual stream that keeps the vector of ones: mean and variance of a token stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Weights of one block; matrices multiply from the right, so a row vector ``x`` becomes ``x @ query``.

    Normalisations and layer scales are folded into the matrices next to them; the key bias is left out, because the
    softmax cancels it.
    """

    query: Array
    query_bias: Array
    key: Array
    value: Array
    value_bias: Array
    output: Array
    output_bias: Array
    first: Array
    first_bias: Array
    second: Array
    second_bias: Array
    heads: int


def folded(norm: tuple[Array, Array], weight: Array, bias: Array) -> tuple[Array, Array]:
    """Fold scale and shift of a LayerNorm into the linear layer that follows."""
    scale, shift = norm
    return scale[:, None] * weight, bias + shift @ weight


def secret_basis(width: int, rng: np.random.Generator) -> Array:
    """A random orthogonal matrix ``[width, width]`` that keeps the vector of ones."""
    ones = np.linalg.qr(np.column_stack([np.ones(width), rng.standard_normal((width, width - 1))]))[0]
    inner = np.eye(width)
    inner[1:, 1:] = np.linalg.qr(rng.standard_normal((width - 1, width - 1)))[0]
    rotation: Array = ones @ inner @ ones.T
    return rotation


def rebased(block: Block, basis: Array, rng: np.random.Generator) -> Block:
    """Rewrite a block for tokens ``x @ basis``, with secrets of its own inside of every head and of the MLP."""
    width = len(basis)
    size = width // block.heads
    heads = rng.permutation(block.heads)
    scores, values = (_in_heads(heads, size, rng) for _ in range(2))
    hidden = rng.permutation(block.first.shape[1])
    return replace(
        block,
        query=basis.T @ block.query @ scores,
        query_bias=block.query_bias @ scores,
        key=basis.T @ block.key @ scores,
        value=basis.T @ block.value @ values,
        value_bias=block.value_bias @ values,
        output=values.T @ block.output @ basis,
        output_bias=block.output_bias @ basis,
        first=(basis.T @ block.first)[:, hidden],
        first_bias=block.first_bias[hidden],
        second=(block.second @ basis)[hidden],
        second_bias=block.second_bias @ basis,
    )


def run_blocks(blocks: Sequence[Block], tokens: npt.NDArray[np.floating], *, epsilon: float = 1e-6) -> Array:
    """Run all blocks in float32.

    Args:
        blocks: in their order.
        tokens: ``[clips, N, D]``.
        epsilon: of the normalisations.

    Returns:
        What the classifier sees, without scale and shift: the normalised mean of the tokens, ``[clips, D]``.
    """
    x = torch.from_numpy(tokens.astype(np.float32))
    for block in blocks:
        x = x + _attention(block, layer_norm(x, x.shape[-1:], eps=epsilon))
        hidden = gelu(layer_norm(x, x.shape[-1:], eps=epsilon) @ _tensor(block.first) + _tensor(block.first_bias))
        x = x + hidden @ _tensor(block.second) + _tensor(block.second_bias)
    return layer_norm(x.mean(dim=1), x.shape[-1:], eps=epsilon).double().numpy()


def _attention(block: Block, x: torch.Tensor) -> torch.Tensor:
    def split(weight: Array, bias: Array | None = None) -> torch.Tensor:
        y = x @ _tensor(weight)
        if bias is not None:
            y = y + _tensor(bias)
        return y.reshape(*x.shape[:2], block.heads, -1).transpose(1, 2)

    mixed = scaled_dot_product_attention(
        split(block.query, block.query_bias), split(block.key), split(block.value, block.value_bias)
    )
    return mixed.transpose(1, 2).reshape(x.shape) @ _tensor(block.output) + _tensor(block.output_bias)


def _in_heads(heads: npt.NDArray[np.int64], size: int, rng: np.random.Generator) -> Array:
    """Return a matrix that rotates every head at random, and puts head i at place ``heads[i]``."""
    whole = np.zeros((len(heads) * size, len(heads) * size))
    for here, there in enumerate(heads):
        rotation = np.linalg.qr(rng.standard_normal((size, size)))[0]
        whole[here * size : (here + 1) * size, there * size : (there + 1) * size] = rotation
    return whole


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))
