"""Read checkpoints of all supported formats into one form.

``load_checkpoint`` detects the format of a path. ``layouts`` maps the weight names of each family, as data.
``refusals`` lists, as data, the models that are not exported, with reasons.
"""

from lcve_deploy.exporters.checkpoints.load import Checkpoint, CheckpointOptions, load_checkpoint

__all__ = ["Checkpoint", "CheckpointOptions", "load_checkpoint"]
