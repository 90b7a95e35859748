"""From a family's weights to ours, by the rules of ``layouts``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.layouts import ZEROS, Rule
from lcve_deploy.model.transformer import TransformerConfig, weight_shapes

__all__ = ["Arrays", "assemble", "block_count", "require_finite"]

Arrays = Mapping[str, npt.NDArray[np.floating]]

_MAX_NAMED = 12


def assemble(source: Arrays, rules: Sequence[Rule], config: TransformerConfig) -> dict[str, npt.NDArray[np.floating]]:
    """Our weights of a checkpoint, as views of its own arrays where that is possible.

    Weights of ours that have no rule, or whose rule finds nothing though the family computes them
    (the sinusoid table), are left to the caller.

    Raises:
        CheckpointError: names every source weight that is missing, unexpected or misshapen.
    """
    shapes = weight_shapes(config)
    weights, used, problems = {}, set[str](), []
    for rule in rules:
        for target, names in _expand(rule, source, config.depth):
            if target not in shapes:
                continue
            absent = [name for name in names if name != ZEROS and name not in source]
            if absent:
                problems += [f"missing {name}" for name in absent]
                continue
            used.update(names)
            try:
                weights[target] = _join(
                    [source[n] for n in names if n != ZEROS], ZEROS in names, shapes[target], target
                )
            except ValueError as error:
                problems.append(f"{' + '.join(n for n in names if n != ZEROS)}: {error}")
    problems += [f"unexpected {name}" for name in source if name not in used]
    if problems:
        more = f"; and {len(problems) - _MAX_NAMED} more" if len(problems) > _MAX_NAMED else ""
        raise CheckpointError(
            f"the checkpoint's weights do not make the model: {'; '.join(problems[:_MAX_NAMED])}{more}",
            hint="a fine-tuned classifier in one of the formats of docs/reference/checkpoints.md is expected",
        )
    return weights


def require_finite(source: Arrays) -> None:
    """Check every value of a checkpoint.

    Raises:
        CheckpointError: names every weight that has NaN or infinite values.
    """
    bad = [name for name, array in source.items() if not np.isfinite(array).all()]
    if bad:
        raise CheckpointError(
            f"weights with values that are not finite (NaN or infinity): {', '.join(bad[:_MAX_NAMED])}",
            hint="use a checkpoint from before training diverged",
        )


def block_count(names: Sequence[str], pattern: str) -> int:
    """Blocks in a checkpoint; ``pattern`` has one group, the number of the block."""
    numbers = {int(match[1]) for name in names if (match := re.match(pattern, name))}
    return max(numbers) + 1 if numbers else 0


def _expand(rule: Rule, source: Arrays, depth: int) -> list[tuple[str, tuple[str, ...]]]:
    """The rule for every block, each with the alternative that the checkpoint has most of."""
    blocks = range(depth) if "{i}" in rule.target else range(1)
    expanded = []
    for i in blocks:
        alternatives = [tuple(name.replace("{i}", str(i)) for name in names) for names in rule.sources]
        best = max(alternatives, key=lambda names: sum(name in source for name in names))
        expanded.append((rule.target.replace("{i}", str(i)), best))
    return expanded


def _join(
    parts: list[npt.NDArray[np.floating]], zeros: bool, shape: tuple[int, ...], target: str
) -> npt.NDArray[np.floating]:
    if target == "cube_embedding.weight":
        return _flatten_kernel(parts[0], shape)
    if zeros:  # queries and values have a bias, keys between them have none
        parts = [parts[0], np.zeros_like(parts[0]), parts[1]]
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if np.squeeze(joined).shape != tuple(size for size in shape if size != 1):
        raise ValueError(f"shape {list(joined.shape)}, expected {list(shape)}")
    return joined.reshape(shape)


def _flatten_kernel(kernel: npt.NDArray[np.floating], shape: tuple[int, ...]) -> npt.NDArray[np.floating]:
    """Conv3d kernel ``[D, C, t, h, w]`` to ``[D, L]``, columns in the order of a cube's values."""
    if kernel.ndim != 5 or kernel.size != shape[0] * shape[1]:
        raise ValueError(f"shape {list(kernel.shape)}, expected [width, channels, t, h, w]")
    return kernel.transpose(0, 2, 3, 4, 1).reshape(shape)
