"""Convert the weights of a checkpoint family to the names and shapes of this package, by the rules of ``layouts``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.layouts import ZEROS, Rule
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import TransformerConfig, weight_shapes

__all__ = ["Arrays", "assemble", "block_count", "require_finite"]

Arrays = Mapping[str, npt.NDArray[np.floating]]

_MAX_NAMED = 12


def assemble(source: Arrays, rules: Sequence[Rule], config: TransformerConfig) -> dict[str, npt.NDArray[np.floating]]:
    """Convert the weights of a checkpoint, as views of its arrays where possible.

    Weights without a rule are left to the caller, such as position tables that a codebase computes.

    Args:
        source: weights by their names in the checkpoint.
        rules: rules of the checkpoint's family.
        config: configuration of the model.

    Returns:
        Weights by their names in ``weight_shapes(config)``.

    Raises:
        CheckpointError: a source weight is missing, is not used by any rule, or has an invalid shape. The message
            lists up to 12 of them.
    """
    shapes = weight_shapes(config)
    weights, used, problems = {}, set[str](), []
    for rule in rules:
        for target, names in _expand(rule, source, config):
            if target not in shapes:
                continue
            absent = [name for name in names if name != ZEROS and name not in source]
            if absent:
                problems += [f"missing {name}" for name in absent]
                continue
            used.update(names)
            try:
                parts = [source.get(name) for name in names]
                weights[target] = _join(parts, shapes[target], target, config.geometry)
            except ValueError as error:
                problems.append(f"{' + '.join(n for n in names if n != ZEROS)}: {error}")
    problems += [f"unexpected {name}" for name in source if name not in used]
    if problems:
        more = f"; and {len(problems) - _MAX_NAMED} more" if len(problems) > _MAX_NAMED else ""
        raise CheckpointError(
            f"the checkpoint's weights do not match the model: {'; '.join(problems[:_MAX_NAMED])}{more}",
            hint="pass a fine-tuned classifier in one of the formats of docs/reference/checkpoints.md",
        )
    return weights


def require_finite(source: Arrays) -> None:
    """Check that every value of a checkpoint is finite.

    Raises:
        CheckpointError: a weight has NaN or infinite values. The message lists up to 12 of them.
    """
    bad = [name for name, array in source.items() if not np.isfinite(array).all()]
    if bad:
        raise CheckpointError(
            f"expected finite weights, received NaN or infinity in: {', '.join(bad[:_MAX_NAMED])}",
            hint="use a checkpoint from before training diverged",
        )


def block_count(names: Sequence[str], pattern: str) -> int:
    """Return the number of blocks, one more than the highest block number.

    Args:
        names: names of the weights.
        pattern: regular expression for the start of a name, with one group: the number of the block.
    """
    numbers = {int(match[1]) for name in names if (match := re.match(pattern, name))}
    return max(numbers) + 1 if numbers else 0


def _expand(rule: Rule, source: Arrays, config: TransformerConfig) -> list[tuple[str, tuple[str, ...]]]:
    """Expand a rule to all blocks, and choose for each the alternative with the most names in the checkpoint."""
    blocks = range(_blocks(rule, config)) if "{i}" in rule.target else range(1)
    expanded = []
    for i in blocks:
        alternatives = [tuple(name.replace("{i}", str(i)) for name in names) for names in rule.sources]
        best = max(alternatives, key=lambda names: sum(name in source for name in names))
        expanded.append((rule.target.replace("{i}", str(i)), best))
    return expanded


def _blocks(rule: Rule, config: TransformerConfig) -> int:
    """Return the number of blocks of a rule: of the pooler or of the encoder."""
    if rule.target.startswith("pooler."):
        return config.pooler.depth if config.pooler else 0
    return config.depth


def _join(
    parts: Sequence[npt.NDArray[np.floating] | None], shape: tuple[int, ...], target: str, geometry: ClipGeometry
) -> npt.NDArray[np.floating]:
    """Join the parts of a weight; None stands for zeros."""
    real = [part for part in parts if part is not None]
    if not real:
        return np.zeros(shape, np.float32)
    if target == "cube_embedding.weight":
        return _flatten_kernel(real[0], shape, geometry)
    if target == "prefix_tokens":
        real = [part.reshape(-1, part.shape[-1] if part.ndim else 1) for part in real]
    elif len(real) < len(parts):  # of queries, keys and values that do not all have a bias
        real = [np.zeros_like(real[0]) if part is None else part for part in parts]
    joined = real[0] if len(real) == 1 else np.concatenate(real)
    if np.squeeze(joined).shape != tuple(size for size in shape if size != 1):
        raise ValueError(f"shape {list(joined.shape)}, expected {list(shape)}")
    if target != "prefix_tokens" and len({part.shape for part in real}) > 1:
        raise ValueError(f"shapes {', '.join(str(list(part.shape)) for part in real)}, expected equal ones")
    return joined.reshape(shape)


def _flatten_kernel(
    kernel: npt.NDArray[np.floating], shape: tuple[int, ...], geometry: ClipGeometry
) -> npt.NDArray[np.floating]:
    """Reshape a kernel ``[D, C, t, h, w]``, or ``[D, C, h, w]`` of an image, to ``[D, L]``.

    Columns are in the order of a cube's values.
    """
    expected = (shape[0], geometry.channels, *geometry.cube)
    whole = kernel[:, :, None] if kernel.ndim == 4 else kernel
    if whole.shape != expected:
        raise ValueError(f"shape {list(kernel.shape)}, expected [width, channels, t, h, w] = {list(expected)}")
    return whole.transpose(0, 2, 3, 4, 1).reshape(shape)
