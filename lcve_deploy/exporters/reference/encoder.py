"""The blocks of the built-in reference: attention and MLP as the original implementations write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from lcve_deploy.model.shapes import RELATIVE_INDEX, ROTARY_COS, ROTARY_SIN
from lcve_deploy.model.transformer import Activation, Attention, Norm, QkNorm, TransformerConfig, logit_scale

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Layers"]

_TANH_NAME: Final = "tanh"


class Layers:
    """Layers of one configuration.

    Args:
        weights: tensors of the model by name.
        config: configuration of the layers.
    """

    def __init__(self, weights: Mapping[str, Tensor], config: TransformerConfig) -> None:
        self._weights, self._config = weights, config

    def blocks(self, x: Tensor, prefix: str, depth: int) -> Tensor:
        """Run blocks on tokens ``[batch, tokens, width]``; the weights of block i begin with the prefix and i."""
        for name in (f"{prefix}{i}." for i in range(depth)):
            x = x + self._branch(f"{name}scale1", self._attention(name, self.norm(x, f"{name}norm1")))
            x = x + self._branch(f"{name}scale2", self.mlp(self.norm(x, f"{name}norm2"), name))
        return x

    def mlp(self, x: Tensor, block: str) -> Tensor:
        """Run the MLP whose weights begin with ``block``."""
        config, activation = self._config, _activations()[self._config.activation]
        x = self.linear(x, f"{block}mlp.fc1")
        gate, values = x[..., : config.hidden], x[..., config.hidden :]
        x = activation(gate) * values if config.gated else activation(gate)
        return self.linear(self.norm(x, f"{block}mlp.norm") if config.mlp_norm else x, f"{block}mlp.fc2")

    def norm(self, x: Tensor, name: str, eps: float | None = None, kind: Norm | None = None) -> Tensor:
        """Normalise the last axis, by default as in the blocks."""
        from torch.nn.functional import layer_norm

        weight, eps = self._weights[f"{name}.weight"], self._config.block_eps if eps is None else eps
        if (kind or self._config.norm) is Norm.LAYER:
            return layer_norm(x, weight.shape, weight, self._weights[f"{name}.bias"], eps)
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight

    def linear(self, x: Tensor, name: str) -> Tensor:
        """Apply a linear layer, with or without a bias."""
        from torch.nn.functional import linear

        return linear(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))

    def _attention(self, block: str, x: Tensor) -> Tensor:
        from torch.nn.functional import normalize, scaled_dot_product_attention

        config = self._config
        q, k, v = self._heads(block, x)
        bias = self._bias(block)
        if config.attention is Attention.COSINE:
            scale = _cosine_scale(self._weights[f"{block}attention.log_scale"], config)
            q, k = normalize(q, dim=-1) * scale, normalize(k, dim=-1)
            mixed = scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        else:
            mixed = scaled_dot_product_attention(self._rotated(q), self._rotated(k), v, attn_mask=bias)
        joined = mixed.transpose(1, 2).flatten(2)
        if config.attention_norm:
            joined = self.norm(joined, f"{block}attention.norm")
        return self.linear(joined, f"{block}attention.projection")

    def _heads(self, block: str, x: Tensor) -> list[Tensor]:
        """Return queries, keys and values, ``[batch, heads, tokens, head width]``, before they are rotated."""
        config = self._config
        parts = dict(zip("qkv", self.linear(x, f"{block}attention.qkv").chunk(3, dim=-1), strict=True))
        for name in "qk" if config.qk_norm is QkNorm.WIDTH else "":
            parts[name] = self.norm(parts[name], f"{block}attention.{name}_norm", kind=config.qk_norm_kind)
        heads = {name: part.unflatten(-1, (config.heads, -1)).transpose(1, 2) for name, part in parts.items()}
        for name in "qk" if config.qk_norm is QkNorm.HEAD else "":
            heads[name] = self.norm(heads[name], f"{block}attention.{name}_norm", kind=config.qk_norm_kind)
        return list(heads.values())

    def _rotated(self, x: Tensor) -> Tensor:
        import torch

        if not self._config.rotary:
            return x
        (cos_a, cos_b), (sin_a, sin_b) = (self._weights[name].chunk(2, dim=-1) for name in (ROTARY_COS, ROTARY_SIN))
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos_a + b * sin_a, b * cos_b + a * sin_b], dim=-1)

    def _bias(self, block: str) -> Tensor | None:
        if not self._config.relative_buckets:
            return None
        table, index = self._weights[f"{block}attention.relative_bias"], self._weights[RELATIVE_INDEX]
        bias: Tensor = table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1)
        return bias

    def _branch(self, name: str, x: Tensor) -> Tensor:
        return x * self._weights[name] if self._config.layer_scale else x


def _cosine_scale(log_scale: Tensor, config: TransformerConfig) -> Tensor:
    import torch

    return torch.from_numpy(logit_scale(log_scale.numpy())).to(log_scale.dtype).reshape(1, config.heads, 1, 1)


def _activations() -> dict[Activation, Callable[[Tensor], Tensor]]:
    from torch.nn import functional

    return {
        Activation.GELU: functional.gelu,
        Activation.GELU_TANH: lambda x: functional.gelu(x, approximate=_TANH_NAME),
        Activation.QUICK_GELU: lambda x: x * (1.702 * x).sigmoid(),
        Activation.RELU: functional.relu,
        Activation.SILU: functional.silu,
    }
