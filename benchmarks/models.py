"""A full-size VideoMAE-B with random weights, as a module and as an official checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples/moving_digits"))

from model import SmallVideoMAE

FRAMES, SIZE, CUBE = 16, 224, (2, 16, 16)


def videomae_base() -> SmallVideoMAE:
    """86 million parameters, 400 classes, 16 frames of 224 pixels; the same on every machine."""
    torch.manual_seed(0)
    model = SmallVideoMAE(classes=400, frames=FRAMES, size=SIZE, cube=CUBE, width=768, depth=12, heads=12)
    return model.eval()


def save_checkpoint(path: Path) -> int:
    """Write the official checkpoint; returns the bytes of its weights."""
    state = videomae_base().state_dict()
    torch.save({"module": state}, path)
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
