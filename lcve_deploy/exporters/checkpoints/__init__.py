"""Checkpoints as users have them, read into one form.

``load_checkpoint`` finds out what a path is; ``layouts`` says, as data, where each family keeps which
weight; ``refusals`` says, as data, what cannot be exported exactly, and why.
"""

from lcve_deploy.exporters.checkpoints.load import Checkpoint, CheckpointOptions, load_checkpoint

__all__ = ["Checkpoint", "CheckpointOptions", "load_checkpoint"]
