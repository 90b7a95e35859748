"""The paper's experiments: rows, records, models on cubes, and a whole run in miniature."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.moving_digits.data import digit_images, digit_labels
from examples.moving_digits.model import SmallVideoMAE
from examples.moving_digits.train import normalise
from lcve_deploy.keys.orders import Orders
from paper import __main__ as command
from paper.experiments import dataset, looked_into, scrambled, training
from paper.experiments import network as network_module
from paper.experiments import running as experiments
from paper.experiments.dataset import GEOMETRY, Dataset
from paper.experiments.network import Network, load_network, save_network
from paper.experiments.records import Record, Row, Task, Way, add_record, read_records
from paper.experiments.rows import COMPARED, PLAIN, SERVICE, rows
from paper.experiments.running import Experiments
from paper.experiments.training import Schedule, logits, train
from paper.findings.seeds import SEEDS
from paper.methods.shuffles import lcve
from paper.methods.table import METHODS, encryption, experiment_key

ACTION = Row(task=Task.ACTION, method=PLAIN, way=Way.TRAINED)


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A few clips, two steps, two keys; results and work in a folder of their own."""
    monkeypatch.setattr(dataset, "TRAINING_CLIPS", 32)
    monkeypatch.setattr(dataset, "HELD_OUT_CLIPS", 16)
    monkeypatch.setattr(experiments, "KEYS", 2)
    monkeypatch.setattr(experiments, "_KEYED_CLIPS", 8)
    monkeypatch.setattr(training, "_BATCH", 8)
    schedules = dict.fromkeys(experiments._SCHEDULES, Schedule(steps=2, rate=1e-3))
    monkeypatch.setattr(experiments, "_SCHEDULES", schedules)
    monkeypatch.setattr(dataset, "_drawn", kept_clips)
    return tmp_path


draw_clips = dataset._drawn
kept_clips = functools.cache(draw_clips)
"""Tests ask for the same clips many times."""


def few_clips(count: int = 8) -> Dataset:
    return kept_clips(count, held_out=True, seed=3)


def unchanged(clips: np.ndarray) -> np.ndarray:
    return clips


def test_rows_are_told_apart_and_come_after_what_they_start_from() -> None:
    all_rows = list(rows())
    assert len(set(all_rows)) == len(all_rows)
    assert all(Row.parse(str(row)) == row for row in all_rows)
    assert all_rows[:2] == [Row(task=task, method=PLAIN, way=Way.TRAINED) for task in Task]
    for method in COMPARED:
        for way in (Way.FINE_TUNED, Way.UNTRAINED):
            assert {Row(task=task, method=method, way=way) for task in Task} <= set(all_rows)
    assert {row.method for row in all_rows} == {PLAIN, *METHODS}


def test_a_record_comes_back_and_leaves_others_alone(tmp_path: Path) -> None:
    first = Record(
        accuracies=(0.5, 0.25), clips=8, processor_seconds=1.26, agreements=(1.0, 1.0), differences=(0.0, 1e-6)
    )
    second = Record(accuracies=(0.125,), clips=16, processor_seconds=2.0, steps=3)
    other = Row(task=Task.IDENTITY, method="qi-frame", way=Way.FINE_TUNED)
    add_record(1, ACTION, first, tmp_path)
    add_record(1, other, second, tmp_path)
    add_record(2, other, first, tmp_path)
    assert read_records(1, tmp_path) == {ACTION: dataclasses.replace(first, processor_seconds=1.3), other: second}
    assert first.accuracy == 0.375
    assert read_records(0, tmp_path) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-1.json", "seed-2.json"]


def test_labels_are_those_of_the_images() -> None:
    from sklearn.datasets import load_digits

    known = {
        image.tobytes(): label for image, label in zip(load_digits().images / 16, load_digits().target, strict=True)
    }
    for held_out in (True, False):
        images, labels = digit_images(held_out=held_out), digit_labels(held_out=held_out)
        assert [known[image.tobytes()] for image in images] == list(labels)


def test_seeds_train_on_other_clips_and_test_on_the_same(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_drawn", draw_clips)
    one, two = dataset.training(0), dataset.training(1)
    assert not np.array_equal(one.clips, two.clips)
    assert np.array_equal(dataset.held_out().clips, dataset.held_out().clips)
    assert np.bincount(dataset.held_out().labels[Task.ACTION]).tolist() == [2] * 8


def test_the_network_on_cubes_is_the_examples_model_on_clips(tmp_path: Path) -> None:
    network, clips = Network(Task.ACTION), few_clips()
    save_network(network, tmp_path / "action.pth")
    official = SmallVideoMAE(classes=8, cube=GEOMETRY.cube)
    official.load_state_dict(torch.load(tmp_path / "action.pth", weights_only=True)["model"])
    with torch.inference_mode():
        expected = official(normalise(clips.clips))
    torch.testing.assert_close(logits(network, clips.cubes(unchanged)), expected, atol=1e-5, rtol=1e-5)


def test_a_model_of_another_task_lends_all_but_its_classifier(tmp_path: Path) -> None:
    network = Network(Task.ACTION)
    save_network(network, tmp_path / "action.pth")
    lent = load_network(tmp_path / "action.pth", Task.IDENTITY)
    assert lent.head.out_features == 10
    theirs, ours = network.state_dict(), lent.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours if not name.startswith("head."))


def permuted(network: Network, orders: Orders) -> Network:
    """The same network with its embedding and positions in the orders of a key."""
    twin = Network(Task.IDENTITY, free_positions=True)
    weights = network.state_dict()
    kernel = weights["patch_embed.proj.weight"].permute(0, 2, 3, 4, 1)
    moved = kernel.flatten(1)[:, orders.pixel_order.copy()].reshape(kernel.shape).permute(0, 4, 1, 2, 3)
    twin.load_state_dict(
        weights | {"patch_embed.proj.weight": moved, "positions": weights["positions"][:, orders.cube_order.copy()]}
    )
    return twin


def test_training_on_encrypted_clips_is_training_on_plain_ones_from_other_random_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Why an attacker with labels loses nothing: random weights have no order to begin with.

    He normalises all channels alike, as he does not know which value is of which.
    """
    monkeypatch.setattr(network_module, "_MEAN", torch.tensor(0.45))
    monkeypatch.setattr(network_module, "_STD", torch.tensor(0.225))
    monkeypatch.setattr(training, "_BATCH", 8)
    torch.manual_seed(0)
    key, clips = experiment_key(5), few_clips(16)
    made = lcve(key, GEOMETRY, encryption("lcve-video").level)
    plain = Network(Task.IDENTITY, free_positions=True)
    twin = permuted(plain, made.orders)
    labels, schedule = torch.from_numpy(clips.labels[Task.IDENTITY]), Schedule(steps=4, rate=1e-3, full=1.0)
    outcomes = []

    def noted(losses: list[float], step: int, loss: float) -> None:
        losses.append(loss)

    for network, change in ((plain, unchanged), (twin, made.encrypt)):
        torch.manual_seed(1)
        losses: list[float] = []
        train(network, clips.cubes(change), labels, schedule, functools.partial(noted, losses))
        outcomes.append((losses, logits(network, clips.cubes(change))))
    (plain_losses, plain_logits), (twin_losses, twin_logits) = outcomes
    assert plain_losses[0] != plain_losses[-1]
    assert twin_losses == pytest.approx(plain_losses, abs=1e-3)
    torch.testing.assert_close(twin_logits, plain_logits, atol=1e-2, rtol=1e-2)


def test_training_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(training, "_BATCH", 8)
    clips, network = few_clips(8), Network(Task.ACTION)
    cubes, labels = clips.cubes(unchanged), torch.from_numpy(clips.labels[Task.ACTION])
    assert len(set(labels.tolist())) == len(labels) == 8
    train(network, cubes, labels, Schedule(steps=60, rate=2e-3), lambda step, loss: None)
    assert (logits(network, cubes).argmax(1) == labels).float().mean() > 0.6


def test_scrambled_rows_agree_with_the_plain_model_and_others_do_not(
    miniature: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrambled, "_exported", functools.cache(scrambled._exported))  # one artifact a key
    run = Experiments(seed=4, work=miniature, say=lambda text: None).run
    found = {
        fed: run(Row(task=Task.ACTION, method=fed, way=Way.SCRAMBLED))
        for fed in (SERVICE, PLAIN, "pixel-video", "cube-video")
    }
    service = found.pop(SERVICE)
    assert service.clips == 16
    assert service.agreements == (1.0, 1.0)
    assert max(service.differences) < 1e-4
    for record in found.values():
        assert min(record.differences) > 10 * max(service.differences)


def test_a_missing_model_is_trained_before_what_needs_it(miniature: Path) -> None:
    said: list[str] = []
    runner = Experiments(seed=4, work=miniature, say=said.append)
    record = runner.run(Row(task=Task.IDENTITY, method="down-8", way=Way.UNTRAINED))
    assert len(record.accuracies) == 1
    assert sorted(path.name for path in (miniature / "seed-4").iterdir()) == ["action.pth", "identity.pth"]


def test_rows_without_training_see_every_key_once(miniature: Path) -> None:
    record = Experiments(seed=4, work=miniature, say=lambda text: None).run(
        Row(task=Task.ACTION, method="le-video", way=Way.UNTRAINED)
    )
    assert (len(record.accuracies), record.clips, record.agreements) == (2, 8, ())


def test_a_model_that_was_fine_tuned_is_tested_under_other_keys(miniature: Path) -> None:
    runner = Experiments(seed=4, work=miniature, say=lambda text: None)
    record = runner.run(Row(task=Task.ACTION, method=SERVICE, way=Way.OTHER_KEYS))
    assert (len(record.accuracies), record.clips, record.steps) == (2, 8, 2)
    assert experiments._TRAINING_KEY not in range(experiments.KEYS)


def test_the_command_goes_on_where_it_stopped(
    miniature: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, pages = miniature / "results", []
    monkeypatch.setattr(command, "_WORK", miniature / "work")
    monkeypatch.setattr(command, "write_page", lambda: pages.append(1))
    monkeypatch.setattr(command, "read_records", lambda seed: read_records(seed, results))
    monkeypatch.setattr(command, "add_record", lambda seed, row, record: add_record(seed, row, record, results))

    def ran(*arguments: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["paper", "--threads", "1", "--seed", "0", *arguments])
        command.main()
        return [line.split()[3] for line in capsys.readouterr().err.splitlines()]

    assert ran("--only", "action/plain/trained") == ["action/plain/trained"]
    kept = read_records(0, results)
    assert ran("--only", "plain/trained") == ["identity/plain/trained"]
    assert ran("--only", "plain/trained") == []
    assert read_records(0, results)[ACTION] == kept[ACTION]
    assert ran("--only", "action/plain/trained", "--again") == ["action/plain/trained"]
    assert len(pages) == 4
    beside: list[bool] = []
    monkeypatch.setattr(command, "_measure_beside", lambda *, again: beside.append(again))
    monkeypatch.setattr(command, "rows", lambda: iter([ACTION]))
    assert ran() == []
    assert beside == [False]


def test_the_command_lists_rows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["paper", "--list", "--only", "free"])
    command.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all("identity/" in line for line in lines)


def test_time_is_turned_round_as_the_names_say() -> None:
    clip = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None, None, None], (1, *GEOMETRY.clip_shape))
    order = {name: list(change(clip)[0, :, 0, 0, 0]) for name, change in looked_into.ASKED.items()}
    assert order == {
        "as it is": list(range(16)),
        "all frames in the opposite order": list(range(16))[::-1],
        "frames of every cube in the opposite order, cubes in theirs": [frame ^ 1 for frame in range(16)],
        "cubes in the opposite order in time, their frames in theirs": [
            14 - frame + 2 * (frame % 2) for frame in range(16)
        ],
    }


def test_hits_are_counted_by_action() -> None:
    truth = np.array([0, 0, 1, 1, *range(2, 8)])
    found = looked_into.by_action([truth, np.zeros_like(truth), np.where(truth == 1, 0, truth)], truth)
    assert found == pytest.approx([1, 1 / 3, *[2 / 3] * 6])


def test_what_lies_behind_it_is_measured(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked_into, "PATH", miniature / "looked-into.json")
    monkeypatch.setattr(looked_into, "_KEYS", 1)
    monkeypatch.setattr(looked_into, "_CLIPS", 16)
    assert looked_into.read() is None
    looked_into.write((4,), miniature)
    found = looked_into.read()
    assert found is not None
    assert found["actions"][0] == "moves left"
    assert set(found["4"]["turned_round"]) == {*looked_into.ASKED, looked_into.NO_POSITIONS}
    assert all(len(hits) == 8 for hits in found["4"]["by_action"].values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "lcve-vidoe"], "no row has 'lcve-vidoe' in its name; --list shows the names"),
        (["--threads", "0"], "expected at least one thread, received 0"),
        (["--seed", "3"], "invalid choice: 3"),
    ],
)
def test_what_the_command_cannot_do_is_one_error(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["paper", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_every_row_of_every_seed_is_committed() -> None:
    for seed in SEEDS:
        assert set(read_records(seed)) == set(rows())
