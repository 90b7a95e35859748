"""How the keyed tensors of two artifacts of one model lie to each other, found without any key.

A rotation moves rows and changes none, so equal rows show which went where. This is how an operator
makes the probe of a rotated artifact. It is also why a rotation gives no forward secrecy:
anyone who has both artifacts has this relation, and with it everything that the old orders opened.
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
Rows = Sequence[Words]  # arrays whose rows stand side by side

_WORD_BYTES: Final = 8
_BLOCK_ROWS: Final = 64
_FIRST_WORDS: Final = 32
_HALF: Final = np.uint64(32)
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit is lost; 2^64 over the golden ratio
_NO_TOKEN: Final = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Relation:
    """Where cubes, values and logits of the new artifact stand in the old one.

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

    Rows that are equal to each other may be matched in any way: the model cannot distinguish them. But
    the token that the classifier reads is matched with the token that it reads.

    Args:
        old: keyed tensors of one artifact.
        new: keyed tensors of the other.
        cubes: N; rows of the positional encoding before the last N are those of prefix tokens.

    Raises:
        ArtifactError: the tensors are not those of one model.
    """
    _require_same_shapes(old, new)
    prefix = len(old["positional_encoding"]) - cubes
    if not all(_equal(a, np.arange(prefix), b[:prefix]) for a, b in zip(_tokens(old), _tokens(new), strict=True)):
        raise _of_another_model("positional_encoding")
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
            f"the keyed tensors are not those of one model: {', '.join(different)} missing, or of another shape"
        )


def _match(name: str, old: Rows, new: Rows) -> Places:
    """The places of equal rows. The first words of a row nearly always tell it from the others."""
    for words in (_FIRST_WORDS, None):
        places, targets = (np.argsort(_fingerprints(rows, words), kind="stable") for rows in (old, new))
        matched = np.empty(len(places), dtype=np.int64)
        matched[targets] = places
        if all(_equal(before, matched, after) for before, after in zip(old, new, strict=True)):
            return matched
    raise _of_another_model(name)


def _equal(old: Words, matched: Places, new: Words) -> bool:
    """Whether the rows are the same, block by block: what is made on the way stays in the cache."""
    blocks = (slice(first, first + _BLOCK_ROWS) for first in range(0, len(new), _BLOCK_ROWS))
    return all(np.array_equal(old[matched[block]], new[block]) for block in blocks)


def _fingerprints(rows: Rows, words: int | None) -> Words:
    """A number for each row, equal for equal rows: only to find pairs, which are then compared in full."""
    fingerprints: Words = np.zeros(len(rows[0]), dtype=np.uint64)
    for part in rows:
        begin = part[:, :words]
        mixed = begin ^ (begin >> _HALF)  # brings high bits to where a product keeps them
        factors = np.cumprod(np.full(mixed.shape[1], _FACTOR), dtype=np.uint64)
        fingerprints *= _FACTOR
        fingerprints += mixed @ factors
    return fingerprints


def _tokens(tensors: Tensors) -> Rows:
    """Rows of the positional encoding, each with a mark that says whether the classifier reads it."""
    table = tensors["positional_encoding"]
    read = np.arange(len(table)) == tensors.get("readout.index", _NO_TOKEN)
    return [_words(table), _words(read)]


def _words(rows: npt.NDArray[Any]) -> Words:
    """The bytes of each row as whole 8-byte words, with zeros after the last where they do not fill it."""
    data = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    missing = -data.shape[1] % _WORD_BYTES
    return (np.pad(data, ((0, 0), (0, missing))) if missing else data).view(np.uint64)


def _of_another_model(name: str) -> ArtifactError:
    return ArtifactError(
        f"the keyed tensors are not those of one model: the rows of {name} are not the same rows in another order"
    )
