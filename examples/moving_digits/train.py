"""Train the moving-digits model on the CPU and write an official-format checkpoint.

    python -m examples.moving_digits.train

takes about ten minutes on two cores and writes ``moving_digits.pth`` and ``training.log`` beside
this file. Most steps see a random quarter of the tokens, the last ones see all of them.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from examples.moving_digits.data import ACTIONS, digit_images, held_out_clips, make_clips
from examples.moving_digits.model import SmallVideoMAE

HERE = Path(__file__).resolve().parent
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)


def normalise(clips: np.ndarray) -> torch.Tensor:
    """uint8 ``[batch, T, H, W, 3]`` to normalised float ``[batch, 3, T, H, W]``."""
    return (torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 255 - MEAN) / STD


@torch.no_grad()
def accuracy(model: SmallVideoMAE, count: int) -> float:
    """Share of the held-out clips whose action is recognised."""
    clips, actions = held_out_clips(count)
    hits = 0
    for start in range(0, count, 40):
        part = slice(start, start + 40)
        hits += int((model(normalise(clips[part])).argmax(1).numpy() == actions[part]).sum())
    return hits / count


def learning_rate(share: float, peak: float) -> float:
    """Linear warm-up over the first 5 %, then half a cosine to zero."""
    return peak * (share / 0.05 if share < 0.05 else 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--full-steps", type=int, default=60, help="last steps, with every token")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--peak", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--output", type=Path, default=HERE / "moving_digits.pth")
    parser.add_argument("--log", type=Path, default=HERE / "training.log")
    args = parser.parse_args()

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = digit_images(held_out=False)
    model = SmallVideoMAE(classes=len(ACTIONS))
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05, betas=(0.9, 0.98))
    started = time.monotonic()

    with args.log.open("w") as log:

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=log, flush=True)

        parameters = sum(p.numel() for p in model.parameters())
        say(f"{parameters:,} parameters, {len(images)} digit images to train on, {args.steps} steps of {args.batch}")
        for step in range(args.steps):
            keep = 1.0 if step >= args.steps - args.full_steps else 0.25
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step / args.steps, args.peak)
            actions = rng.integers(len(ACTIONS), size=args.batch)
            clips, _ = make_clips(images, actions, rng)
            loss = cross_entropy(model(normalise(clips), keep=keep), torch.from_numpy(actions))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            if step % 100 == 99:
                minutes, right = (time.monotonic() - started) / 60, accuracy(model, 160)
                say(f"step {step + 1:5d}  loss {loss.item():.3f}  held-out {right:.3f}  {minutes:.1f} min")
        say(f"held-out accuracy over 800 clips: {accuracy(model, 800):.4f}")
        say(f"trained in {(time.monotonic() - started) / 60:.1f} minutes on {torch.get_num_threads()} threads")

    torch.save({"model": model.state_dict(), "epoch": 0}, args.output)


if __name__ == "__main__":
    main()
