"""Rows of the bank: who gets which, when one makes way, and what happens to one key alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcve_deploy.artifact import TensorSpec
from lcve_deploy.clips import KeyRef
from lcve_deploy.errors import ArtifactError, UnknownKeyError
from lcve_deploy.runtime.bank import HostMemory, KeyBank, Tensors

SPECS = (
    TensorSpec(name="bank.weight", dtype="float32", shape=(None, 2, 3)),
    TensorSpec(name="bank.index", dtype="int64", shape=(None,)),
)
LIMIT = 60  # seconds: ends a test that hangs


def key(number: int) -> KeyRef:
    return KeyRef(key_id=f"{number:032x}", salt=f"{number + 1:032x}")


def tensors(number: int) -> Tensors:
    return {"weight": np.full((2, 3), number, np.float32), "index": np.array(number, np.int64)}


def load(wanted: KeyRef) -> Tensors:
    return tensors(int(wanted.key_id, 16))


def make(rows: int, load: Callable[[KeyRef], Tensors] = load) -> tuple[KeyBank, HostMemory]:
    memory = HostMemory(SPECS, rows)
    return KeyBank(SPECS, rows=rows, memory=memory, load=load), memory


def numbers(memory: HostMemory, rows: np.ndarray) -> list[int]:
    """Which key each row has, after a check that all of its tensors are that key's."""
    weights, indices = memory.arrays["bank.weight"][rows], memory.arrays["bank.index"][rows]
    assert (weights == indices[:, None, None]).all()
    return [int(index) for index in indices]


def test_each_key_has_its_own_row_and_repetitions_share_it() -> None:
    bank, memory = make(4)
    with bank.lease([key(7), key(8), key(7)]) as rows:
        assert rows.dtype == np.int64
        assert rows[0] == rows[2] != rows[1]
        assert numbers(memory, rows) == [7, 8, 7]


def test_the_least_recently_used_key_makes_room() -> None:
    loaded: list[KeyRef] = []
    bank, memory = make(2, lambda wanted: loaded.append(wanted) or load(wanted))
    for number in (1, 2, 1, 3, 1):
        with bank.lease([key(number)]) as rows:
            assert numbers(memory, rows) == [number]
    assert loaded == [key(1), key(2), key(3)]
    assert bank.keys() == (key(3), key(1))


def test_a_row_that_a_run_holds_is_never_given_away() -> None:
    bank, memory = make(2)
    with bank.lease([key(1)]) as held:
        for number in range(2, 9):
            with bank.lease([key(number)]):
                assert numbers(memory, held) == [1]


def test_a_batch_waits_until_there_are_rows_for_all_of_it_and_holds_none_meanwhile() -> None:
    bank, memory = make(2)
    with ThreadPoolExecutor() as threads:
        with bank.lease([key(1)]), bank.lease([key(2)]):
            waiting = threads.submit(lambda: _leased(bank, memory, [3, 4]))
            assert not waiting.done()
        assert waiting.result(LIMIT) == [3, 4]


def _leased(bank: KeyBank, memory: HostMemory, wanted: list[int]) -> list[int]:
    with bank.lease([key(number) for number in wanted]) as rows:
        return numbers(memory, rows)


def test_more_keys_than_rows_are_an_error() -> None:
    bank, _ = make(2)
    with pytest.raises(ValueError, match="at most 2 different keys, received 3"), bank.lease([key(1), key(2), key(3)]):
        pass
    with pytest.raises(ValueError, match="at least 1 row"):
        make(0)


def test_hot_keys_run_while_a_cold_one_is_loaded_and_it_is_loaded_once() -> None:
    started, go, loads = threading.Event(), threading.Event(), Counter[KeyRef]()

    def slow(wanted: KeyRef) -> Tensors:
        loads[wanted] += 1
        if wanted == key(9):
            started.set()
            assert go.wait(LIMIT)
        return load(wanted)

    bank, memory = make(3, slow)
    assert _leased(bank, memory, [1]) == [1]
    with ThreadPoolExecutor() as threads:
        cold = [threads.submit(_leased, bank, memory, [9, 1]) for _ in range(4)]
        assert started.wait(LIMIT)
        assert _leased(bank, memory, [1]) == [1]
        assert _leased(bank, memory, [2]) == [2]
        assert bank.keys() == (key(1), key(2)) or bank.keys() == (key(2), key(1))
        go.set()
        assert [future.result(LIMIT) for future in cold] == [[9, 1]] * 4
    assert loads[key(9)] == 1


def test_a_failing_load_is_that_keys_failure_alone_and_leaves_no_row_behind() -> None:
    def failing(wanted: KeyRef) -> Tensors:
        if wanted == key(5):
            raise ArtifactError("damaged")
        return load(wanted)

    bank, memory = make(2, failing)
    for _ in range(5):
        with pytest.raises(ArtifactError, match="damaged"):
            _leased(bank, memory, [1, 5])
        assert _leased(bank, memory, [1, 2]) == [1, 2]


def test_a_thread_whose_load_was_waited_for_and_failed_leaves_the_load_to_the_others() -> None:
    started, go, calls = threading.Event(), threading.Event(), Counter[str]()

    def at_first_failing(wanted: KeyRef) -> Tensors:
        calls["all"] += 1
        if calls["all"] == 1:
            started.set()
            assert go.wait(LIMIT)
            raise OSError("the disk is away")
        return load(wanted)

    bank, memory = make(1, at_first_failing)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(_leased, bank, memory, [5])
        assert started.wait(LIMIT)
        others = [threads.submit(_leased, bank, memory, [5]) for _ in range(3)]
        go.set()
        with pytest.raises(OSError, match="away"):
            first.result(LIMIT)
        assert [other.result(LIMIT) for other in others] == [[5]] * 3


def test_batches_that_load_each_others_keys_all_end() -> None:
    """Either loads one key and waits for the other's; each loads its own first."""
    both = threading.Barrier(2)

    def meeting(wanted: KeyRef) -> Tensors:
        if wanted in (key(1), key(2)):
            both.wait(LIMIT)
        return load(wanted)

    bank, memory = make(3, meeting)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(_leased, bank, memory, [1, 3])
        second = threads.submit(_leased, bank, memory, [2, 3])
        assert (first.result(LIMIT), second.result(LIMIT)) == ([1, 3], [2, 3])


def test_a_forgotten_key_is_loaded_again_and_current_runs_end_with_what_they_have() -> None:
    version = 10
    bank, memory = make(2, lambda wanted: tensors(version))
    with bank.lease([key(1)]) as before:
        bank.forget(key(1))
        version = 20
        assert bank.keys() == ()
        with bank.lease([key(1)]) as after:
            assert (numbers(memory, before), numbers(memory, after)) == ([10], [20])
    assert _leased(bank, memory, [1, 1]) == [20, 20]
    bank.forget(key(99))
    with bank.lease([key(3)]), bank.lease([key(4)]):  # the row of the forgotten tensors is free again
        pass


def test_a_key_that_is_forgotten_while_it_is_loaded_is_not_kept() -> None:
    bank, memory = make(1, lambda wanted: bank.forget(wanted) or load(wanted))
    assert _leased(bank, memory, [1]) == [1]
    assert bank.keys() == ()
    assert _leased(bank, memory, [2]) == [2]


def test_what_is_put_is_used_and_can_be_replaced() -> None:
    memory = HostMemory(SPECS, 1)
    bank = KeyBank(SPECS, rows=1, memory=memory)
    with pytest.raises(UnknownKeyError, match="there is no key"):
        _leased(bank, memory, [1])
    for number in (1, 2):
        bank.put(key(1), tensors(number))
        assert _leased(bank, memory, [1]) == [number]
    assert bank.keys() == (key(1),)


@pytest.mark.parametrize(
    ("rows", "is_view", "distinct"), [([5], True, 1), ([3, 2, 3], True, 2), ([7, 1, 1, 7], False, 2)]
)
def test_a_run_gets_its_own_rows_alone(rows: list[int], is_view: bool, distinct: int) -> None:
    memory = HostMemory(SPECS, 8)
    for row in range(8):
        memory.write(row, tensors(row))
    arrays, places = memory.subset(np.array(rows, np.int64))
    assert [int(index) for index in arrays["bank.index"][places]] == rows
    assert [weight[0, 0] for weight in arrays["bank.weight"][places]] == rows
    assert {len(array) for array in arrays.values()} == {distinct}
    assert {np.shares_memory(array, memory.arrays[name]) for name, array in arrays.items()} == {is_view}
    assert places.dtype == np.int64


def test_borrowed_rows_belong_to_no_key_and_come_back() -> None:
    bank, memory = make(1)
    for number in (1, 2):
        with bank.borrow(tensors(number)) as row:
            assert numbers(memory, np.array([row])) == [number]
            assert bank.keys() == ()
    assert _leased(bank, memory, [3]) == [3]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weight": np.zeros((2, 3), np.float32)}, r"index is missing, expected int64 \[\]"),
        ({**tensors(1), "more": np.zeros(1)}, r"more is float64 \[1\], expected missing"),
        (
            {**tensors(1), "weight": np.zeros((1, 3), np.float32)},
            r"weight is float32 \[1, 3\], expected float32 \[2, 3\]",
        ),
        ({**tensors(1), "weight": np.zeros((2, 3))}, r"weight is float64 \[2, 3\], expected float32 \[2, 3\]"),
    ],
)
def test_tensors_of_another_model_are_refused(wrong: Tensors, said: str) -> None:
    """NumPy would broadcast or convert them."""
    bank, memory = make(1)
    with pytest.raises(ArtifactError, match=said):
        bank.put(key(1), wrong)
    assert bank.keys() == ()
    assert _leased(bank, memory, [2]) == [2]


@given(st.integers(1, 4), st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=4), max_size=30))
def test_every_run_sees_its_own_tensors_and_the_most_recent_keys_stay(rows: int, batches: list[list[int]]) -> None:
    bank, memory = make(rows)
    recent: list[int] = []
    for batch in batches:
        distinct = list(dict.fromkeys(batch))
        if len(distinct) > rows:
            continue
        assert _leased(bank, memory, batch) == batch
        recent = [*(number for number in recent if number not in distinct), *distinct][-rows:]
        assert bank.keys() == tuple(key(number) for number in recent)


def test_many_threads_with_few_rows_and_failing_loads() -> None:
    """Each run sees its own keys for as long as it holds them, whatever the others load, forget and fail to load."""

    def unreliable(wanted: KeyRef) -> Tensors:
        if dice.random() < 0.1:
            raise OSError("unreadable")
        return load(wanted)

    dice, failed, right = np.random.default_rng(4), Counter[str](), Counter[str]()
    bank, memory = make(3, unreliable)

    def work(seed: int) -> None:
        own = np.random.default_rng(seed)
        for _ in range(300):
            batch = own.integers(8, size=own.integers(1, 4)).tolist()
            try:
                with bank.lease([key(number) for number in batch]) as rows:
                    for _ in range(3):
                        assert numbers(memory, rows) == batch
                right["runs"] += 1
            except OSError:
                failed["runs"] += 1
            if own.random() < 0.1:
                bank.forget(key(int(own.integers(8))))

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(work, seed) for seed in range(8)]:
            future.result(LIMIT)
    assert right["runs"] > failed["runs"] > 0
    for number in range(20, 40):  # no row is lost
        bank.put(key(number), tensors(number))
    assert bank.keys() == tuple(key(number) for number in (37, 38, 39))
    with bank.lease([key(37), key(38), key(39)]):
        pass


def test_memory_is_used_for_written_rows_alone() -> None:
    before = _resident()
    spec = TensorSpec(name="bank.weight", dtype="float32", shape=(None, 1024, 1024))
    memory = HostMemory([spec], 1000)  # 4 GB
    memory.write(500, {"weight": np.ones((1024, 1024), np.float32)})
    assert memory.arrays["bank.weight"][500].all()
    assert _resident() - before < 64 * 2**20


def _resident() -> int:
    fields = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in fields if line.startswith("VmRSS:"))
