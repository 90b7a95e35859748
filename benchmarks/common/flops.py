"""Floating-point operations of one clip, from the model's shape: a product and a sum count as two."""

from __future__ import annotations

from lcve_deploy.model.transformer import TransformerConfig


def clip_flops(config: TransformerConfig) -> int:
    """Operations of the matrix products; all else together is below one percent.

    With N tokens, width D, hidden width H and L values in a cube: ``2NLD`` for the embedding; in each block
    ``6ND²`` for queries, keys and values, ``2N²D`` for the scores, ``2N²D`` for their mixture, ``2ND²`` for the
    projection and ``4NDH`` for the MLP; ``2DC`` for the classifier of C classes.
    """
    n, d, h = config.tokens, config.width, config.hidden
    embedding = 2 * config.geometry.cubes * config.geometry.values * d
    block = 6 * n * d**2 + 4 * n**2 * d + 2 * n * d**2 + 4 * n * d * h
    return embedding + config.depth * block + 2 * d * config.classes
