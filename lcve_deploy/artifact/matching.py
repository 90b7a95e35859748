"""Find how the rows of the keyed tensors of two artifacts of one model correspond, without a key.

A key rotation moves rows and does not change them, so equal rows show where each one went. The operator uses this to
convert the probe of a rotated artifact. It is also why a rotation gives no forward secrecy: anyone who has both
artifacts can compute this relation, and an attack on the old orders then also reveals the new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import ArtifactError

__all__ = ["Relation", "match_rows"]

Tensors = Mapping[str, npt.NDArray[Any]]
Places = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Rows = Sequence[Words]  # arrays whose i-th rows together form row i

_WORD_BYTES: Final = 8
_BLOCK_ROWS: Final = 64
_FIRST_WORDS: Final = 32
_HALF: Final = np.uint64(32)
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit is lost; 2^64 over the golden ratio
_NO_TOKEN: Final = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Relation:
    """Positions in the old artifact of the cubes, values and logits of the new one.

    Args:
        cubes: new cube i is old cube ``cubes[i]``; int64 ``[N]``.
        values: new value j of a cube is its old value ``values[j]``; int64 ``[L]``.
        labels: new logit c is old logit ``labels[c]``; int64 ``[classes]``.
    """

    cubes: Places
    values: Places
    labels: Places


def match_rows(old: Tensors, new: Tensors, *, cubes: int) -> Relation:
    """Match the rows of the keyed tensors of two artifacts, bit for bit.

    Duplicate rows are matched in any order, because the model cannot distinguish them. Exception: the token that
    the classifier reads is always matched with the token that it reads in the other artifact.

    Args:
        old: keyed tensors of one artifact.
        new: keyed tensors of the other artifact.
        cubes: number of cubes N; the last N rows of the positional encoding are cubes, those before are prefix tokens.

    Raises:
        ArtifactError: the tensors do not belong to the same model.
    """
    _require_same_shapes(old, new)
    prefix = len(old["positional_encoding"]) - cubes
    if not all(_equal(a, np.arange(prefix), b[:prefix]) for a, b in zip(_tokens(old), _tokens(new), strict=True)):
        raise _different_models("positional_encoding")
    tokens = ([part[prefix:] for part in _tokens(tensors)] for tensors in (old, new))
    values = ([_words(tensors["cube_embedding.weight"])] for tensors in (old, new))
    classes = ([_words(tensors["head.weight"].T), _words(tensors["head.bias"])] for tensors in (old, new))
    return Relation(
        cubes=_match("positional_encoding", *tokens),
        values=_match("cube_embedding.weight", *values),
        labels=_match("head", *classes),
    )


def _require_same_shapes(old: Tensors, new: Tensors) -> None:
    kinds = [{name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} for tensors in (old, new)]
    different = sorted(name for name in kinds[0] | kinds[1] if kinds[0].get(name) != kinds[1].get(name))
    if different:
        raise ArtifactError(
            f"the keyed tensors belong to different models: {', '.join(different)} missing or of different shape"
        )


def _match(name: str, old: Rows, new: Rows) -> Places:
    """Return the position of each new row among the old rows.

    Fingerprints of the first words are tried first: they nearly always distinguish all rows.
    """
    for words in (_FIRST_WORDS, None):
        places, targets = (np.argsort(_fingerprints(rows, words), kind="stable") for rows in (old, new))
        matched = np.empty(len(places), dtype=np.int64)
        matched[targets] = places
        if all(_equal(before, matched, after) for before, after in zip(old, new, strict=True)):
            return matched
    raise _different_models(name)


def _equal(old: Words, matched: Places, new: Words) -> bool:
    """Compare rows block by block, so that temporary arrays fit the CPU cache."""
    blocks = (slice(first, first + _BLOCK_ROWS) for first in range(0, len(new), _BLOCK_ROWS))
    return all(np.array_equal(old[matched[block]], new[block]) for block in blocks)


def _fingerprints(rows: Rows, words: int | None) -> Words:
    """Compute a number for each row, the same for equal rows. It only finds pairs, which are then compared in full."""
    fingerprints: Words = np.zeros(len(rows[0]), dtype=np.uint64)
    for part in rows:
        begin = part[:, :words]
        mixed = begin ^ (begin >> _HALF)  # moves high bits down, where multiplication keeps them
        factors = np.cumprod(np.full(mixed.shape[1], _FACTOR), dtype=np.uint64)
        fingerprints *= _FACTOR
        fingerprints += mixed @ factors
    return fingerprints


def _tokens(tensors: Tensors) -> Rows:
    """Return the rows of the positional encoding, each with a flag: whether the classifier reads this token."""
    table = tensors["positional_encoding"]
    read = np.arange(len(table)) == tensors.get("readout.index", _NO_TOKEN)
    return [_words(table), _words(read)]


def _words(rows: npt.NDArray[Any]) -> Words:
    """Return the bytes of each row as 8-byte words; the last word is padded with zeros."""
    data = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    missing = -data.shape[1] % _WORD_BYTES
    return (np.pad(data, ((0, 0), (0, missing))) if missing else data).view(np.uint64)


def _different_models(name: str) -> ArtifactError:
    return ArtifactError(
        f"the keyed tensors belong to different models: the rows of {name} are not the same rows in another order"
    )
