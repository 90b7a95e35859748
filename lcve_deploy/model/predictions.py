"""What logits mean: probabilities of classes that exclude each other, of classes that do not, or plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Prediction", "ProblemType", "predictions", "scores", "sigmoid", "softmax"]

Floats = npt.NDArray[np.float64]


class ProblemType(StrEnum):
    """What the logits of a model are. The names are those of ``problem_type`` in Hugging Face transformers."""

    SINGLE_LABEL = "single_label_classification"
    """One class a clip: the softmax of the logits."""
    MULTI_LABEL = "multi_label_classification"
    """Any number of classes a clip: the sigmoid of each logit."""
    REGRESSION = "regression"
    """No classes: the logits themselves."""

    @classmethod
    def unsaid(cls, outputs: int) -> ProblemType:
        """The problem type to assume: a single output is a value."""
        return cls.REGRESSION if outputs == 1 else cls.SINGLE_LABEL

    def require_sense(self, outputs: int) -> None:
        """Refuse the softmax of one number, which is 1 whatever the number.

        Raises:
            ValueError: single-label classification with fewer than two classes.
        """
        if self is ProblemType.SINGLE_LABEL and outputs < 2:
            raise ValueError(
                f"{self} needs at least 2 classes, but the model has {outputs}; a model with one output is "
                f"{ProblemType.REGRESSION} or {ProblemType.MULTI_LABEL}"
            )


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One class or output of a clip. It has either a probability or a value.

    Args:
        index: in the plain order of the logits.
        name: of the class.
        probability: 0..1, mean of the views; None for a regression.
        value: of a regression, mean of the views; None otherwise.
    """

    index: int
    name: str
    probability: float | None = None
    value: float | None = None

    def text(self, decimals: int) -> str:
        """The probability in percent, with so many decimals, or the value with two more."""
        if self.probability is not None:
            return f"{self.probability:.{decimals}%}"
        return f"{self.value:.{decimals + 2}f}"

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``probability`` or ``value``, whichever there is."""
        score = {"probability": self.probability, "value": self.value}
        return {
            "index": self.index,
            "name": self.name,
            **{name: number for name, number in score.items() if number is not None},
        }


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Softmax over the last axis, in float64."""
    exact = logits.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: npt.NDArray[np.floating]) -> Floats:
    """The logistic function of each logit, in float64; no logit is too large for it."""
    exact = logits.astype(np.float64)
    small = np.exp(-np.abs(exact))
    result: Floats = np.where(exact >= 0, 1.0, small) / (1.0 + small)
    return result


def _values(logits: npt.NDArray[np.floating]) -> Floats:
    return logits.astype(np.float64)


_SCORES: Final[Mapping[ProblemType, Callable[[npt.NDArray[np.floating]], Floats]]] = {
    ProblemType.SINGLE_LABEL: softmax,
    ProblemType.MULTI_LABEL: sigmoid,
    ProblemType.REGRESSION: _values,
}


def scores(logits: npt.NDArray[np.floating], problem_type: ProblemType) -> Floats:
    """Probabilities or values of one video: those of each view, and then their mean.

    Args:
        logits: of its views, ``[views, outputs]``, in the plain order.
        problem_type: what they are.

    Returns:
        ``[outputs]``.
    """
    mean: Floats = _SCORES[problem_type](logits).mean(axis=0)
    return mean


def predictions(
    logits: npt.NDArray[np.floating], names: Sequence[str], problem_type: ProblemType, *, top: int
) -> list[Prediction]:
    """The ``top`` most probable classes of a video; of a regression every output, in the order of the logits."""
    means = scores(logits, problem_type)
    if problem_type is ProblemType.REGRESSION:
        return [Prediction(index=i, name=names[i], value=float(mean)) for i, mean in enumerate(means)]
    best = np.argsort(-means, kind="stable")[:top]
    return [Prediction(index=int(i), name=names[i], probability=float(means[i])) for i in best]
