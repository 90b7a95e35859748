"""What every row does: from the clips of a seed to a record.

Whoever trains has labels, as the paper's attacker does; whoever trains on encrypted clips has clips under the same key
as those of the test, but not the key.
"""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paper.experiments.dataset import GEOMETRY, TRAINING_CLIPS, Dataset, held_out, training
from paper.experiments.network import Network, load_network, save_network
from paper.experiments.records import Record, Row, Task, Way
from paper.experiments.rows import PLAIN, SERVICE
from paper.experiments.scrambled import logits_of_exported
from paper.experiments.training import Schedule, logits, train
from paper.methods.encryption import Clips
from paper.methods.table import METHODS, Downsampling, experiment_key

__all__ = ["KEYS", "Experiments"]

KEYS: Final = 20
"""Keys of the rows without training."""
_KEYED_CLIPS: Final = 200
"""Held-out clips under each of them, where predictions are not those of the service."""
_TRAINING_KEY: Final = 999
_TUNED_ON: Final = {
    Way.FINE_TUNED: TRAINING_CLIPS,
    Way.FINE_TUNED_1024: 1024,
    Way.FINE_TUNED_256: 256,
    Way.OTHER_KEYS: TRAINING_CLIPS,
}
"""Clips to fine-tune on."""
_SCHEDULES: Final = {
    (Task.ACTION, Way.TRAINED): Schedule(steps=900, rate=1e-3),
    (Task.IDENTITY, Way.TRAINED): Schedule(steps=1800, rate=2e-3),
    (Task.IDENTITY, Way.FREE): Schedule(steps=1800, rate=1e-3),
    **{(task, way): Schedule(steps=300, rate=1e-3) for task in Task for way in _TUNED_ON},
}
_EVERY: Final = 25
"""Steps between two words on progress."""

Change = Callable[[Clips], Clips]


@dataclass(kw_only=True)
class Experiments:
    """The rows of one seed.

    Args:
        seed: of weights, training clips, batches and keys.
        work: folder for the checkpoints of models for plain clips, kept so that work that was cut off goes on.
        say: is told how far a row is.
    """

    seed: int
    work: Path
    say: Callable[[str], None]

    def run(self, row: Row) -> Record:
        """Do what a row asks for; a model for plain clips that it needs and that is not there is trained before."""
        for base in self._missing(row):
            self.run(base)
        torch.manual_seed(zlib.crc32(f"{self.seed}/{row}".encode()))
        started = time.process_time()
        ways = {Way.UNTRAINED: self._untrained, Way.SCRAMBLED: self._scrambled}
        found = ways.get(row.way, self._trained)(row)
        return Record(**found, processor_seconds=time.process_time() - started)

    def plain_model(self, task: Task) -> Path:
        """The checkpoint of the model for plain clips, which is trained if it is not there."""
        if not self._checkpoint(task).exists():
            self.run(Row(task=task, method=PLAIN, way=Way.TRAINED))
        return self._checkpoint(task)

    def _missing(self, row: Row) -> list[Row]:
        """Models for plain clips that a row starts from and that have no checkpoint."""
        needed = {Way.FREE: (), Way.TRAINED: (Task.ACTION,) if row.task is Task.IDENTITY else ()}
        tasks = needed.get(row.way, (row.task,))
        return [Row(task=task, method=PLAIN, way=Way.TRAINED) for task in tasks if not self._checkpoint(task).exists()]

    def _trained(self, row: Row) -> dict[str, Any]:
        change, schedule = self._one_change(row.method), _SCHEDULES[row.task, row.way]
        network = self._start(row)
        cubes = self._training.cubes(change, clips=_TUNED_ON.get(row.way))
        labels = torch.from_numpy(self._training.labels[row.task][: len(cubes)])
        train(network, cubes, labels, schedule, functools.partial(self._step, schedule.steps))
        if row.way is Way.TRAINED:
            save_network(network, self._checkpoint(row.task))
        if row.way is Way.OTHER_KEYS:
            return {**self._under_all_keys(network, row), "steps": schedule.steps}
        accuracy = self._accuracy(network, self._held_out.cubes(change), row.task)
        return {"accuracies": (accuracy,), "clips": len(self._held_out.clips), "steps": schedule.steps}

    def _start(self, row: Row) -> Network:
        """Weights to begin with: the model for identities starts from that for actions, as both of the paper's
        start from one that was pre-trained.
        """
        if row.way in _TUNED_ON:
            return self._plain(row.task)
        if row.way is Way.TRAINED and row.task is Task.IDENTITY:
            return load_network(self._checkpoint(Task.ACTION), Task.IDENTITY)
        return Network(row.task, free_positions=row.way is Way.FREE)

    def _untrained(self, row: Row) -> dict[str, Any]:
        return self._under_all_keys(self._plain(row.task), row)

    def _under_all_keys(self, network: Network, row: Row) -> dict[str, Any]:
        accuracies = list[float]()
        for change in self._changes(row.method):
            cubes = self._held_out.cubes(change, clips=_KEYED_CLIPS)
            accuracies.append(self._accuracy(network, cubes, row.task))
            self.say(f"key {len(accuracies)} of {KEYS}")
        return {"accuracies": tuple(accuracies), "clips": _KEYED_CLIPS}

    def _scrambled(self, row: Row) -> dict[str, Any]:
        clips = self._held_out.clips[: None if row.method == SERVICE else _KEYED_CLIPS]
        plain = logits(self._plain(row.task), self._held_out.cubes(_unchanged, clips=len(clips))).numpy()
        labels, found = self._held_out.labels[row.task][: len(clips)], list[tuple[float, float, float]]()
        for number in self._keys():
            got = logits_of_exported(self._checkpoint(row.task), clips, number=number, fed=row.method)
            found.append((_share(got, labels), _share(got, plain.argmax(1)), float(np.abs(got - plain).max())))
            self.say(f"key {len(found)} of {KEYS}")
        accuracies, agreements, differences = zip(*found, strict=True)
        more = {"agreements": agreements, "differences": differences}
        return {"accuracies": accuracies, "clips": len(labels), **more}

    def _keys(self) -> range:
        """Numbers of the keys of the rows without training: every seed has its own."""
        return range(1000 * self.seed, 1000 * self.seed + KEYS)

    def _changes(self, method: str) -> Iterator[Change]:
        """What a method does to clips, under every key."""
        made = METHODS[method]
        if isinstance(made, Downsampling):
            yield made.apply
        else:
            yield from (made.keyed(experiment_key(number), GEOMETRY).encrypt for number in self._keys())

    def _one_change(self, method: str) -> Change:
        """What a method does to the clips to train on, and to those to test on."""
        if method == PLAIN:
            return _unchanged
        made = METHODS[method]
        if isinstance(made, Downsampling):
            return made.apply
        return made.keyed(experiment_key(1000 * self.seed + _TRAINING_KEY), GEOMETRY).encrypt

    def _accuracy(self, network: Network, cubes: Tensor, task: Task) -> float:
        return _share(logits(network, cubes).numpy(), self._held_out.labels[task][: len(cubes)])

    def _plain(self, task: Task) -> Network:
        return load_network(self._checkpoint(task), task)

    def _checkpoint(self, task: Task) -> Path:
        """Of the model for plain clips."""
        return self.work / f"seed-{self.seed}" / f"{task}.pth"

    def _step(self, steps: int, step: int, loss: float) -> None:
        if step % _EVERY == 0:
            self.say(f"step {step} of {steps}, loss {loss:.3f}")

    @functools.cached_property
    def _training(self) -> Dataset:
        self.say("drawing clips")
        return training(self.seed)

    @functools.cached_property
    def _held_out(self) -> Dataset:
        return held_out()


def _unchanged(clips: Clips) -> Clips:
    return clips


def _share(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Share of the clips whose largest logit is the label's."""
    return float((logits.argmax(axis=1) == labels).mean())
