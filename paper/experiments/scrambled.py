"""ViT Scrambling as it is shipped: the plain model goes through ``export``, and its artifact answers.

The artifact is fed with fully encrypted clips, and, for Table 6, with clips of which only the cubes or only the values
have moved, or nothing: under the same key as the model's.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lcve_deploy import Client, ExportOptions, SessionOptions, export, open_session
from lcve_deploy.cipher.clips import encrypt
from lcve_deploy.clips import EncryptedClip, PlainClip
from lcve_deploy.exporters.checkpoints import CheckpointOptions
from lcve_deploy.keys.orders import Orders
from paper.experiments.dataset import GEOMETRY
from paper.experiments.network import HEADS
from paper.methods.encryption import Clips
from paper.methods.table import experiment_key

__all__ = ["FED", "logits_of_exported"]

_BATCH: Final = 50
_LEFT_OUT: Final = {
    "plain": ("cube_order", "pixel_order"),
    "pixel-video": ("cube_order",),
    "cube-video": ("pixel_order",),
    "lcve-video": (),
}
FED: Final = tuple(_LEFT_OUT)
"""What a scrambled model is fed with: the combinations of both shuffles."""


def logits_of_exported(checkpoint: Path, clips: Clips, *, number: int, fed: str) -> npt.NDArray[np.float32]:
    """Logits ``[clips, classes]`` of a checkpoint that was exported with a key.

    Args:
        checkpoint: official VideoMAE format.
        clips: plain, ``[clips, T, H, W, C]``, uint8.
        number: of the key.
        fed: one of ``FED``; ``lcve-video`` is the way of the service.
    """
    client, session = _exported(checkpoint, number)
    orders = _without(client.orders, _LEFT_OUT[fed])
    parts = []
    for start in range(0, len(clips), _BATCH):
        cubes = encrypt(PlainClip(values=clips[start : start + _BATCH]), orders).values
        parts.append(session.run(EncryptedClip(values=cubes, binding=client.settings.binding)))
    return client.plain_order(np.concatenate(parts))


def _exported(checkpoint: Path, number: int) -> tuple[Client, Any]:
    t, size = GEOMETRY.frames, GEOMETRY.height
    options = ExportOptions(checkpoint=CheckpointOptions(heads=HEADS, frames=t, size=size), stride=1)
    with tempfile.TemporaryDirectory() as folder:
        artifact, key = Path(folder) / "artifact", experiment_key(number)
        export(checkpoint, artifact, key=key, options=options)
        session: Any = open_session(artifact / "server", SessionOptions(threads=torch.get_num_threads()))
        client = Client.open(artifact / "client", key)
        named = client.settings.binding.key
        session.bank.put(named, session.folders.load(named))  # while the folder is there
        return client, session


def _without(orders: Orders, left_out: tuple[str, ...]) -> Orders:
    """Orders of which some are the identity."""
    identities: dict[str, Any] = {name: np.arange(len(getattr(orders, name))) for name in left_out}
    return dataclasses.replace(orders, **identities)
