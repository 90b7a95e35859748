"""Interpret logits as probabilities of exclusive classes, of independent classes, or as plain values."""

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
    """Meaning of a model's logits; names as of ``problem_type`` in Hugging Face transformers."""

    SINGLE_LABEL = "single_label_classification"
    """One class per clip: softmax of the logits."""
    MULTI_LABEL = "multi_label_classification"
    """Any number of classes per clip: sigmoid of each logit."""
    REGRESSION = "regression"
    """No classes: the logits themselves."""

    @classmethod
    def default_for(cls, outputs: int) -> ProblemType:
        """Return the problem type to assume if none is stated: regression for a single output."""
        return cls.REGRESSION if outputs == 1 else cls.SINGLE_LABEL

    def check_outputs(self, outputs: int) -> None:
        """Reject the softmax of one number, which is always 1.

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
    """One class or output of a clip, with either a probability or a value.

    Args:
        index: place in the plain order of the logits.
        name: name of the class.
        probability: 0..1, mean over the views; None for a regression.
        value: output of a regression, mean over the views; None otherwise.
    """

    index: int
    name: str
    probability: float | None = None
    value: float | None = None

    def text(self, decimals: int) -> str:
        """Format the probability in percent with this many decimals, or the value with two more."""
        if self.probability is not None:
            return f"{self.probability:.{decimals}%}"
        return f"{self.value:.{decimals + 2}f}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, with the one of ``probability`` and ``value`` that is set."""
        score = {"probability": self.probability, "value": self.value}
        return {
            "index": self.index,
            "name": self.name,
            **{name: number for name, number in score.items() if number is not None},
        }


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Compute the softmax over the last axis, in float64."""
    exact = logits.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: npt.NDArray[np.floating]) -> Floats:
    """Compute the logistic function of each logit, in float64, without overflow for large logits."""
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
    """Compute the probabilities or values of one video: the mean over its views.

    Args:
        logits: logits of the views, ``[views, outputs]``, in the plain order.
        problem_type: meaning of the logits.

    Returns:
        Probabilities or values, float64 ``[outputs]``.
    """
    mean: Floats = _SCORES[problem_type](logits).mean(axis=0)
    return mean


def predictions(
    logits: npt.NDArray[np.floating], names: Sequence[str], problem_type: ProblemType, *, top: int
) -> list[Prediction]:
    """Return the ``top`` most probable classes of a video, or all outputs of a regression, unsorted."""
    means = scores(logits, problem_type)
    if problem_type is ProblemType.REGRESSION:
        return [Prediction(index=i, name=names[i], value=float(mean)) for i, mean in enumerate(means)]
    best = np.argsort(-means, kind="stable")[:top]
    return [Prediction(index=int(i), name=names[i], probability=float(means[i])) for i in best]
