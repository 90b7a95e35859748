"""What lies behind rows that came out against expectation.

* That the order of cubes hardly matters for actions: the model is asked with parts of time turned round, and with
  positional encodings that are all the same.
* That rows without the key lie somewhat above chance: their hits by action.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from examples.moving_digits.data import ACTIONS
from paper.experiments.dataset import CLASSES, GEOMETRY, Dataset, held_out
from paper.experiments.files import write_json
from paper.experiments.network import Network, load_network
from paper.experiments.records import RESULTS, Task
from paper.experiments.running import Experiments
from paper.experiments.scrambled import logits_of_exported
from paper.experiments.training import logits
from paper.methods.encryption import Clips
from paper.methods.table import encryption, experiment_key

__all__ = ["ASKED", "NO_POSITIONS", "PATH", "by_action", "measure", "read", "turned_round", "write"]

PATH: Final = RESULTS / "looked-into.json"
_CLIPS: Final = 200
_KEYS: Final = 5

Answers = npt.NDArray[np.int64]


def _frames_of_cubes_turned(clips: Clips) -> Clips:
    """The frames of every cube in the opposite order; cubes stay in theirs."""
    t, lead = GEOMETRY.cube[0], clips.shape[0]
    return clips.reshape(lead, -1, t, *clips.shape[2:])[:, :, ::-1].reshape(clips.shape)


def _cubes_turned(clips: Clips) -> Clips:
    """Cubes in the opposite order in time; the frames inside of them stay in theirs."""
    t, lead = GEOMETRY.cube[0], clips.shape[0]
    return clips.reshape(lead, -1, t, *clips.shape[2:])[:, ::-1].reshape(clips.shape)


def _as_it_is(clips: Clips) -> Clips:
    return clips


def _film_turned(clips: Clips) -> Clips:
    return clips[:, ::-1]


ASKED: Final[dict[str, Callable[[Clips], Clips]]] = {
    "as it is": _as_it_is,
    "all frames in the opposite order": _film_turned,
    "frames of every cube in the opposite order, cubes in theirs": _frames_of_cubes_turned,
    "cubes in the opposite order in time, their frames in theirs": _cubes_turned,
}
"""What is done to plain clips before the plain model sees them."""
NO_POSITIONS: Final = "as it is, positional encodings all the same"


def turned_round(network: Network, blind: Network, clips: Dataset) -> dict[str, dict[str, float]]:
    """Shares of clips that are taken for their action, and for the opposite one, by what is done to them.

    Args:
        network: the plain model.
        blind: the same with positional encodings that are all the same.
        clips: plain ones.
    """
    asked = {name: (network, change) for name, change in ASKED.items()} | {NO_POSITIONS: (blind, _as_it_is)}
    answers = {name: _answers(model, clips, change) for name, (model, change) in asked.items()}
    truth = clips.labels[Task.ACTION][:_CLIPS]
    return {
        name: {"right": float((answer == truth).mean()), "opposite": float((answer == truth ^ 1).mean())}
        for name, answer in answers.items()
    }


def by_action(answers: list[Answers], truth: Answers) -> list[float]:
    """Share of the clips of every action that are recognised, over all keys."""
    return [
        float(np.mean([(answer[truth == action] == action).mean() for answer in answers]))
        for action in range(CLASSES[Task.ACTION])
    ]


def measure(seed: int, work: Path) -> dict[str, Any]:
    """Figures of the action model of a seed, which is trained if it is not there."""
    checkpoint = Experiments(seed=seed, work=work, say=lambda text: None).plain_model(Task.ACTION)
    network, blind = (load_network(checkpoint, Task.ACTION) for _ in range(2))
    blind.positions.copy_(blind.positions.mean(dim=1, keepdim=True).expand_as(blind.positions))
    clips, keys = held_out(), range(1000 * seed, 1000 * seed + _KEYS)
    shuffles = [encryption("pixel-video").keyed(experiment_key(number), GEOMETRY).encrypt for number in keys]
    plain = clips.clips[:_CLIPS]
    answers = {
        "plain model, pixels shuffled": [_answers(network, clips, change) for change in shuffles],
        "scrambled model, plain clips": [
            logits_of_exported(checkpoint, plain, number=number, fed="plain").argmax(1) for number in keys
        ],
    }
    truth = clips.labels[Task.ACTION][:_CLIPS]
    return {
        "turned_round": turned_round(network, blind, clips),
        "by_action": {name: by_action(found, truth) for name, found in answers.items()},
    }


def write(seeds: tuple[int, ...], work: Path) -> None:
    """Measure all seeds, and put the figures into their file."""
    found = {"actions": list(ACTIONS), **{str(seed): measure(seed, work) for seed in seeds}}
    write_json(PATH, found)


def read() -> dict[str, Any] | None:
    """The figures of the file; None where it is not there."""
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else None


def _answers(network: Network, clips: Dataset, change: Callable[[Clips], Clips]) -> Answers:
    answers: Answers = logits(network, clips.cubes(change, clips=_CLIPS)).argmax(1).numpy()
    return answers
