"""Video transformers of the official shapes with random weights: as modules, and as official checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from examples.moving_digits.model import SmallVideoMAE
from lcve_deploy.exporters.checkpoints import CheckpointOptions

CLASSES = 400
_SPREAD = 0.02


@dataclass(frozen=True, kw_only=True)
class Size:
    """Shape of a model, and of its clips."""

    name: str
    width: int
    depth: int
    heads: int
    hidden: int
    frames: int = 16
    pixels: int = 224
    cube: tuple[int, int, int] = (2, 16, 16)
    classes: int = CLASSES

    @property
    def options(self) -> CheckpointOptions:
        """What an official checkpoint does not say."""
        return CheckpointOptions(heads=self.heads, frames=self.frames, size=self.pixels)


SIZES = {
    size.name: size
    for size in (
        Size(name="VideoMAE-S", width=384, depth=12, heads=6, hidden=1536),
        Size(name="VideoMAE-B", width=768, depth=12, heads=12, hidden=3072),
        Size(name="VideoMAE-L", width=1024, depth=24, heads=16, hidden=4096),
        Size(name="VideoMAE-H", width=1280, depth=32, heads=16, hidden=5120),
        Size(name="VideoMAEv2-g", width=1408, depth=40, heads=16, hidden=6144, cube=(2, 14, 14)),
    )
}
BASE = SIZES["VideoMAE-B"]
TINY = Size(name="tiny", width=48, depth=2, heads=3, hidden=192, frames=8, pixels=32, cube=(2, 8, 8), classes=10)


def weight_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """Official names and shapes of the weights. Source: MCG-NJU/VideoMAE, ``modeling_finetune.py``."""
    width, hidden = size.width, size.hidden
    block = {
        **dict.fromkeys(("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"), (width,)),
        **dict.fromkeys(("attn.q_bias", "attn.v_bias", "attn.proj.bias", "mlp.fc2.bias"), (width,)),
        "attn.qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "mlp.fc1.weight": (hidden, width),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (width, hidden),
    }
    return {
        "patch_embed.proj.weight": (width, 3, *size.cube),
        "patch_embed.proj.bias": (width,),
        **{f"blocks.{i}.{name}": shape for i in range(size.depth) for name, shape in block.items()},
        "fc_norm.weight": (width,),
        "fc_norm.bias": (width,),
        "head.weight": (size.classes, width),
        "head.bias": (size.classes,),
    }


def random_weights(size: Size) -> dict[str, torch.Tensor]:
    """The same on every machine; small numbers, and the LayerNorms near one."""
    draw = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in weight_shapes(size).items():
        weights[name] = torch.empty(shape).normal_(std=_SPREAD, generator=draw)
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1
    return weights


def save_checkpoint(size: Size, path: Path) -> int:
    """Write an official checkpoint; returns the bytes of its weights."""
    weights = random_weights(size)
    torch.save({"module": weights}, path)
    return sum(tensor.nbytes for tensor in weights.values())


def videomae(size: Size) -> SmallVideoMAE:
    """The plain PyTorch model with the weights of the checkpoint."""
    module = SmallVideoMAE(
        classes=size.classes,
        frames=size.frames,
        size=size.pixels,
        cube=size.cube,
        width=size.width,
        depth=size.depth,
        heads=size.heads,
    )
    module.load_state_dict(random_weights(size))
    return module.eval()


class CubesToTokens(torch.nn.Module):
    """The embedding without a 3D convolution, which ExecuTorch 1.5 lacks: cubes are lines of a matrix product."""

    def __init__(self, embedding: torch.nn.Conv3d) -> None:
        super().__init__()
        self._cube = embedding.kernel_size
        self._product = torch.nn.Linear(embedding.weight[0].numel(), embedding.out_channels)
        self._product.weight.data = embedding.weight.data.flatten(1)
        assert embedding.bias is not None
        self._product.bias.data = embedding.bias.data

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        batch, channels, *axes = clip.shape
        (t, h, w), (frames, rows, columns) = self._cube, axes
        cubes = clip.reshape(batch * channels * frames // t, t, rows // h, h, columns // w, w)  # XNNPACK: six axes
        cubes = cubes.permute(0, 2, 4, 1, 3, 5).reshape(batch, channels, -1, t * h * w)
        tokens: torch.Tensor = self._product(cubes.transpose(1, 2).flatten(2))
        return tokens


def without_convolution(size: Size) -> torch.nn.Module:
    """The same model and weights with :class:`CubesToTokens`."""
    module: torch.nn.Module = videomae(size)
    module.patch_embed = CubesToTokens(module.get_submodule("patch_embed.proj"))  # type: ignore[arg-type]
    return module.eval()
