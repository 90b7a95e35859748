"""The plain model, scrambled for block-preserving encryption: exact on what is decoded, without training.

A value of the encrypted clip is a plain value or 255 minus one. So the embedding takes its columns in the order of the
values, negated where a value is, and 255 times the sum of the negated columns joins its bias. Positions follow the
cubes, as in ViT Scrambling.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from lcve_deploy.cipher.weights import scramble
from lcve_deploy.model.transformer import Normalisation, VideoTransformer
from paper.methods.block_preserving import BlockPreserving

__all__ = ["scrambled_for"]

_WHITE: Final = 255


def scrambled_for(model: VideoTransformer, encryption: BlockPreserving) -> VideoTransformer:
    """Return a model whose logits on encrypted clips are those of ``model`` on decrypted ones.

    Args:
        model: the plain model, of the geometry of the encryption.
        encryption: with its key.
    """
    exact = {name: np.asarray(array, np.float64) for name, array in model.weights.items()}
    moved = scramble(dataclasses.replace(model, weights=exact), encryption.orders).weights
    weight, bias = moved["cube_embedding.weight"], moved["cube_embedding.bias"]
    embedding = {
        "cube_embedding.weight": np.where(encryption.negated, -weight, weight),
        "cube_embedding.bias": bias + _WHITE * weight[:, encryption.negated].sum(axis=1),
    }
    channels = model.config.geometry.channels
    as_bytes = Normalisation(mean=(0.0,) * channels, std=(1 / _WHITE,) * channels)
    return dataclasses.replace(model, weights={**moved, **embedding}, normalisation=as_bytes)
