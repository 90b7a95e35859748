"""Training and testing of a network on cubes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from paper.experiments.network import Network

__all__ = ["Schedule", "logits", "train"]

_BATCH: Final = 32
_TEST_BATCH: Final = 50
_WARM_UP: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Args:
        steps: of 32 clips.
        rate: peak learning rate of AdamW, after a linear warm-up; from there half a cosine to zero.
        keep: share of the tokens that a step sees, random ones.
        full: share of the steps, the last ones, that see all tokens.
    """

    steps: int
    rate: float
    keep: float = 0.25
    full: float = 0.04


def train(
    network: Network, cubes: Tensor, labels: Tensor, schedule: Schedule, progress: Callable[[int, float], None]
) -> None:
    """Train in place.

    Args:
        network: to train.
        cubes: ``[clips, N, L]``, uint8.
        labels: ``[clips]``, int64.
        schedule: how long and how fast.
        progress: is told of every step and its loss.
    """
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05, betas=(0.9, 0.98))
    for step in range(schedule.steps):
        share = step / schedule.steps
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate * _course(share)
        chosen = torch.randint(len(cubes), (_BATCH,))
        keep = schedule.keep if share < 1 - schedule.full else 1.0
        loss = cross_entropy(network(cubes[chosen], keep=keep), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        progress(step + 1, loss.item())


@torch.inference_mode()
def logits(network: Network, cubes: Tensor) -> Tensor:
    """Logits ``[clips, classes]``, from every token."""
    return torch.cat([network(part) for part in cubes.split(_TEST_BATCH)])


def _course(share: float) -> float:
    if share < _WARM_UP:
        return share / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP)))
