"""Segment held-out clips that are encrypted, and compare with the plain path.

    python -m examples.moving_digits.show_segmentation OUTPUT

exports the moving digits with the head of ``segmentation.npz`` to the new folder OUTPUT, runs encrypted clips, and
prints how far the result is from the plain model's, and how good both are. ``OUTPUT/segmentation.png`` shows, from top
to bottom: frames of a clip, the encrypted frames, the classes as the operator has them, and as the key holder has them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from examples.moving_digits.data import Clips, FloatArray
from examples.moving_digits.segmentation import (
    CHECKPOINT,
    GEOMETRY,
    HEAD,
    OPTIONS,
    Labels,
    intersection_over_union,
    labelled_clips,
)
from lcve_deploy import Client, ExportOptions, PlainClip, SecurityKey, export, open_session
from lcve_deploy.client import token_grid
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.files.writing import new_file
from lcve_deploy.video.write import encode_png, tile

CLIPS: Final = 40
SHOWN: Final = 2
"""The clip of the picture."""
FRAMES: Final = (1, 5, 9, 13)
ENLARGED: Final = 3
COLOURS: Final = np.array(
    [
        *((0, 0, 0), (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200)),
        *((245, 130, 48), (145, 30, 180), (70, 240, 240), (240, 50, 230)),
    ]
)
"""A colour for each class; black is the background."""

Values = npt.NDArray[np.floating]


def export_segmentation(output: Path, key: SecurityKey) -> Path:
    """Export the moving digits with the head, and return the artifact."""
    options = ExportOptions(checkpoint=replace(OPTIONS, class_vectors=HEAD), stride=1)
    return export(CHECKPOINT, output / "service", key=key, options=options).folder


def run(service: Path, client: Client, clips: Clips) -> tuple[Values, Values]:
    """Run encrypted clips. Return what the operator has, and the same in plain order, ``[clips, tokens, classes]``."""
    session = open_session(service / "server")
    parts = [session.run(client.encrypt(PlainClip(values=clip[None]))) for clip in clips]
    theirs: Values = np.concatenate(parts)
    return theirs, client.plain_order(theirs)


def plain_logits(clips: Clips) -> FloatArray:
    """Run plain clips in the plain model, in float64."""
    return BuiltinReference(load_checkpoint(CHECKPOINT, replace(OPTIONS, class_vectors=HEAD)).model).logits(clips)


def classes_of(logits: Values) -> Labels:
    """Return the class of every cube, ``[clips, T/t, H/h, W/w]``."""
    return np.asarray(token_grid(logits, GEOMETRY).argmax(-1), dtype=np.int64)


def draw(clip: Clips, seen: Clips, theirs: Labels, ours: Labels) -> bytes:
    """Return the picture as PNG.

    Args:
        clip: plain frames, ``[T, H, W, 3]``.
        seen: encrypted frames, put together as they come.
        theirs: class of every cube as the operator has it.
        ours: class of every cube as the key holder has it.
    """
    rows = [clip, seen, _painted(clip * 0, theirs), _painted(clip, ours)]
    images = [row[i].repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1) for row in rows for i in FRAMES]
    return encode_png(tile(images, columns=len(FRAMES)))


def _painted(clip: Clips, classes: Labels) -> Clips:
    """Mix frames with the colours of the classes."""
    whole = classes
    for axis, size in enumerate(GEOMETRY.cube):
        whole = whole.repeat(size, axis=axis)
    colours = COLOURS[whole]
    return np.where(whole[..., None] > 0, 0.4 * clip + 0.6 * colours, 0.6 * clip).round().astype(np.uint8)


def main() -> None:
    output = Path(sys.argv[1])
    output.mkdir(parents=True)
    key = SecurityKey.create()
    client = Client.open(export_segmentation(output, key) / "client", key)
    clips, labels = labelled_clips(CLIPS, held_out=True, seed=13)
    theirs, logits = run(output / "service", client, clips)
    wanted, found = plain_logits(clips), classes_of(logits)
    gap, scale = np.abs(logits - wanted).max(), np.abs(wanted).max()
    print(f"max |Δlogit| over {wanted.size} logits: {gap:.1e} (scale {scale:.3g})")
    print(f"cubes with the class of the plain path: {(found == classes_of(wanted)).mean():.4%}")
    paths = {"plain path": classes_of(wanted), "encrypted path": found, "operator": classes_of(theirs)}
    for name, classes in paths.items():
        print(f"mean intersection over union, {name}: {intersection_over_union(classes, labels).mean():.3f}")
    encrypted = client.encrypt(PlainClip(values=clips[SHOWN : SHOWN + 1])).values
    seen = GEOMETRY.from_cubes(encrypted, np)[0]
    with new_file(output / "segmentation.png") as file:
        file.write(draw(clips[SHOWN], seen, classes_of(theirs)[SHOWN], found[SHOWN]))


if __name__ == "__main__":
    main()
