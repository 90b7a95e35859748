"""The example's small VideoMAE, fed with cubes: ``Network``.

Its parameters carry the official names, so that its ``state_dict`` is an official VideoMAE checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from examples.moving_digits.model import SmallVideoMAE
from paper.experiments.dataset import CLASSES, GEOMETRY
from paper.experiments.records import Task

__all__ = ["HEADS", "Network", "load_network", "save_network"]

HEADS: Final = 4
_MEAN: Final = torch.tensor([0.485, 0.456, 0.406]).repeat(GEOMETRY.values // 3)
_STD: Final = torch.tensor([0.229, 0.224, 0.225]).repeat(GEOMETRY.values // 3)


class Network(SmallVideoMAE):
    """Cubes ``[batch, N, L]`` (uint8) to logits ``[batch, classes]``.

    Args:
        task: what is predicted.
        free_positions: positional encodings that are random at first and trained, instead of the fixed sinusoid.
    """

    def __init__(self, task: Task, *, free_positions: bool = False) -> None:
        super().__init__(classes=CLASSES[task], cube=GEOMETRY.cube, heads=HEADS)
        if free_positions:
            random = 0.02 * torch.randn_like(self.positions)
            del self.positions
            self.positions = nn.Parameter(random)

    def forward(self, cubes: Tensor, *, keep: float = 1.0) -> Tensor:
        """Logits; ``keep`` below 1 leaves the other tokens out (random ones for every clip: for speed, in training)."""
        batch, tokens, _ = cubes.shape
        positions = self.positions.expand(batch, -1, -1)
        if keep < 1.0:
            kept = torch.rand(batch, tokens).argsort(dim=1)[:, : int(tokens * keep)]
            clip = torch.arange(batch)[:, None]
            cubes, positions = cubes[clip, kept], positions[clip, kept]
        x = self._embedded(cubes) + positions
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.fc_norm(x.mean(1)))
        return logits

    def _embedded(self, cubes: Tensor) -> Tensor:
        kernel = self.patch_embed.proj.weight.permute(0, 2, 3, 4, 1).flatten(1)
        return linear((cubes.float() / 255 - _MEAN) / _STD, kernel, self.patch_embed.proj.bias)


def save_network(network: Network, path: Path) -> None:
    """Write an official-format checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    torch.save({"model": network.state_dict(), "epoch": 0}, unfinished)
    unfinished.replace(path)


def load_network(path: Path, task: Task) -> Network:
    """Read what :func:`save_network` wrote; the classifier is new where the checkpoint is of another task."""
    network = Network(task)
    weights = torch.load(path, weights_only=True)["model"]
    if weights["head.bias"].shape != network.head.bias.shape:
        weights = {name: weight for name, weight in weights.items() if not name.startswith("head.")}
    network.load_state_dict(weights, strict=False)
    return network
