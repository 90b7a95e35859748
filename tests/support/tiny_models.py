"""Tiny random checkpoints of shapes that no oracle has."""

from __future__ import annotations

from pathlib import Path

__all__ = ["save_single_frame"]


def save_single_frame(folder: Path, *, seed: int = 0) -> Path:
    """Save a model for pictures: clips of one frame, 32 x 32 pixels, in cubes of 1 x 8 x 8, with ten classes."""
    import torch
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    torch.manual_seed(seed)
    config = VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=1,
        tubelet_size=1,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        initializer_range=0.3,
    )
    config.num_labels = 10
    VideoMAEForVideoClassification(config).save_pretrained(folder)
    return folder
