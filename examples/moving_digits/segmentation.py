"""Train a head that says for every cube of a clip what moves there: nothing, or a digit with one of the eight motions.

    python -m examples.moving_digits.segmentation

takes about a minute and writes ``segmentation.npz`` and ``segmentation.log`` next to this file. The encoder
stays as it is. The head is one linear layer on its tokens, in the form that ``lcve export --class-vectors`` takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from examples.moving_digits.data import ACTIONS, Clips, FloatArray, digit_images, draw_clips
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.exporters.reference.builtin import BuiltinReference, ReferencePrecision
from lcve_deploy.geometry import ClipGeometry

HERE: Final = Path(__file__).resolve().parent
CHECKPOINT: Final = HERE / "moving_digits.pth"
HEAD: Final = HERE / "segmentation.npz"
GEOMETRY: Final = ClipGeometry.parse("16x64x64x3/2x8x8")
OPTIONS: Final = CheckpointOptions(heads=4, frames=16, size=64, output=OutputChoice.TOKENS)
NAMES: Final = ("background", *ACTIONS)
INK: Final = 0.1
"""Smallest mean ink of a cube that shows a part of the digit."""

Labels = npt.NDArray[np.int64]


def labelled_clips(count: int, *, held_out: bool, seed: int) -> tuple[Clips, Labels]:
    """Draw clips, and the class of every cube.

    Shape: clips ``[count, T, H, W, 3]``, labels ``[count, T/t, H/h, W/w]``: 0 for the background, or 1 + action.
    """
    actions = np.arange(count) % len(ACTIONS)
    clips, _, ink = draw_clips(digit_images(held_out=held_out), actions, np.random.default_rng(seed))
    return clips, np.where(_mean_ink(ink) > INK, 1 + actions[:, None, None, None], 0)


def _mean_ink(ink: FloatArray) -> FloatArray:
    (nt, nh, nw), (t, h, w) = GEOMETRY.grid, GEOMETRY.cube
    mean: FloatArray = ink.reshape(-1, nt, t, nh, h, nw, w).mean(axis=(2, 4, 6))
    return mean


def tokens_of(clips: Clips) -> Tensor:
    """Run the encoder; ``[clips, tokens, width]``."""
    encoder = BuiltinReference(load_checkpoint(CHECKPOINT, OPTIONS).model, ReferencePrecision.FLOAT32)
    return torch.from_numpy(encoder.logits(clips)).float()


def intersection_over_union(found: Labels, labels: Labels) -> FloatArray:
    """Intersection over union of every class, ``[classes]``."""
    shares = [((found == k) & (labels == k)).sum() / ((found == k) | (labels == k)).sum() for k in range(len(NAMES))]
    return np.array(shares)


def fit(tokens: Tensor, labels: Tensor, *, steps: int = 40) -> tuple[Tensor, Tensor]:
    """Fit weight ``[classes, width]`` and bias ``[classes]`` of a linear layer, with all tokens in every step."""
    mean, std = tokens.mean(0), tokens.std(0)
    scaled = (tokens - mean) / std
    weight = torch.zeros(len(NAMES), tokens.shape[1], requires_grad=True)
    bias = torch.zeros(len(NAMES), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = cross_entropy(scaled @ weight.T + bias, labels) + 1e-5 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    folded = weight.detach() / std
    return folded, bias.detach() - folded @ mean


def main() -> None:
    torch.manual_seed(0)
    clips, labels = labelled_clips(240, held_out=False, seed=11)
    weight, bias = fit(tokens_of(clips).flatten(0, 1), torch.from_numpy(labels).flatten())
    clips, labels = labelled_clips(160, held_out=True, seed=12)
    found = (tokens_of(clips) @ weight.T + bias).argmax(-1).numpy().reshape(labels.shape)
    shares = intersection_over_union(found, labels)
    lines = [f"{name:<28}{share:.3f}" for name, share in zip(NAMES, shares, strict=True)]
    lines += [f"{'mean':<28}{shares.mean():.3f}", f"{'cubes with the right class':<28}{(found == labels).mean():.3f}"]
    text = "intersection over union on 160 held-out clips\n" + "\n".join(lines) + "\n"
    print(text, end="")
    (HERE / "segmentation.log").write_text(text)
    np.savez(HEAD, vectors=weight.numpy(), bias=bias.numpy(), unit=np.float32(0), names=np.array(NAMES))


if __name__ == "__main__":
    main()
