"""A small VideoMAE classifier whose parameters carry the official names.

Its ``state_dict`` is an official VideoMAE fine-tuning checkpoint: no key bias, a sinusoid position
table that is not saved, mean pooling before ``fc_norm``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention


def sinusoid(positions: int, width: int) -> Tensor:
    """Position table ``[1, positions, width]``: sine in even columns, cosine in odd ones."""
    column = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] / 10000 ** (2 * (column // 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()[None]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = linear(x, self.qkv.weight, bias).reshape(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    def __init__(self, width: int, cube: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, kernel_size=cube, stride=cube)

    def forward(self, clip: Tensor) -> Tensor:
        out: Tensor = self.proj(clip).flatten(2).transpose(1, 2)
        return out


class SmallVideoMAE(nn.Module):
    """Clip ``[batch, 3, T, H, W]`` (float, normalised) to logits ``[batch, classes]``."""

    def __init__(
        self,
        *,
        classes: int,
        frames: int = 16,
        size: int = 64,
        cube: tuple[int, int, int] = (2, 8, 8),
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        tokens = math.prod(n // c for n, c in zip((frames, size, size), cube, strict=True))
        self.patch_embed = PatchEmbed(width, cube)
        self.positions: Tensor
        self.register_buffer("positions", sinusoid(tokens, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, clip: Tensor, *, keep: float = 1.0) -> Tensor:
        """Logits; in training, ``keep`` below 1 drops the other tokens (random, for speed)."""
        x = self.patch_embed(clip) + self.positions
        if keep < 1.0:
            batch, tokens, width = x.shape
            kept = torch.rand(batch, tokens).argsort(dim=1)[:, : int(tokens * keep), None]
            x = x.gather(1, kept.expand(-1, -1, width))
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(self.fc_norm(x.mean(1)))
        return out
