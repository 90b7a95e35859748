"""The benchmarks' own bookkeeping: pages that say what was measured, counts that are right, scripts that run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import attention, report
from benchmarks.attacks import page as attacks_page
from benchmarks.attacks.wire_page import render_wire
from benchmarks.chart import write_chart
from benchmarks.common import measure, models, tables
from benchmarks.common.bench import Bench
from benchmarks.common.cases import PROCESSES
from benchmarks.common.contestants import BY_KEY, reason
from benchmarks.common.files import RESULTS, ROOT
from benchmarks.common.flops import clip_flops
from benchmarks.common.load import Clock, others
from benchmarks.common.processes import module
from benchmarks.common.summary import medians, summary
from benchmarks.common.unchecked import export_without_parity
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import page as gpu_page
from benchmarks.parts import opening, serving, sizes
from benchmarks.records import Records
from benchmarks.serving import load
from benchmarks.serving.servers import Clients, triton_is_there
from lcve_deploy import ClipGeometry, enroll, verify_server
from lcve_deploy.artifact import find_keys
from lcve_deploy.model.transformer import TransformerConfig
from lcve_deploy.verbs.export import ExportOptions


@pytest.fixture
def records() -> Records:
    return Records(RESULTS / "benchmarks.json")


def process(rounds: int = 2, version: str = "1", day: str = "2026-01-01", **times: list[float]) -> dict[str, Any]:
    """What one process of a case measured."""
    found = {"times": times or {"later": [1.0, 2.0], "open": [2.0, 2.0]}, "missing": {}}
    return {"date": day, "versions": {"x": version}, "code": "a", "load": 0.5, "rounds": rounds, "figures": found}


def test_the_page_is_made_of_the_results_beside_it(records: Records) -> None:
    assert (ROOT / "docs/evidence/benchmarks.md").read_text(encoding="utf-8") == report.render(records)


def test_rows_have_the_medians_of_all_rounds_and_the_spread_of_processes() -> None:
    times = [{"times": {"a": [1.0, 1.0], "b": [2.0, 2.0]}}, {"times": {"a": [1.0, 2.0], "b": [4.0, 8.0]}}]
    joined = summary(times)
    row = joined["rows"]["b"]
    assert (row["ratio"], row["lowest"], row["highest"]) == (3.0, 2.0, 4.0)
    assert (row["processes"], row["rounds"], row["seconds"]) == (2, 4, 3.0)
    assert joined["rows"]["a"]["ratio"] == 1.0


def test_a_contestant_that_ran_in_one_process_only_is_compared_there_and_one_without_any_says_why() -> None:
    joined = summary(
        [
            {"times": {"a": [1.0], "b": [3.0]}, "missing": {"c": "no"}},
            {"times": {"a": [1.0]}, "missing": {"b": "no memory", "c": "no"}},
        ]
    )
    assert joined["rows"]["b"]["processes"] == 1
    assert joined["missing"] == {"c": "no"}


def test_figures_of_one_shape_become_medians_and_their_bounds_the_outermost() -> None:
    one = {"name": "a", "rows": [{"ratio": 1.0, "low": 0.5, "high": 2.0}]}
    two = {"name": "a", "rows": [{"ratio": 3.0, "low": 0.7, "high": 9.0}]}
    assert medians([one, two]) == {"name": "a", "rows": [{"ratio": 2.0, "low": 0.5, "high": 9.0}]}


def test_work_of_others_is_all_work_but_that_of_the_children() -> None:
    start, end = Clock(wall=10.0, busy=100.0, children=5.0), Clock(wall=20.0, busy=118.0, children=20.0)
    assert others(start, end) == 0.3
    assert others(start, Clock(wall=20.0, busy=110.0, children=20.0)) == 0.0


def test_processes_are_kept_as_they_end_and_those_of_other_libraries_go(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.json"
    Records(path).add("cpu", "opening", "first", 2, process())
    again = Records(path)
    assert again.has("cpu", "opening", "first", 2, process())
    assert not again.has("cpu", "opening", "first", 1, process())
    assert not again.has("cpu", "opening", "first", 2, process(version="2"))
    assert not again.has("other cpu", "opening", "first", 2, process())
    again.add("cpu", "opening", "first", 1, process())
    assert len(Records(path).measured("opening")[0].processes) == 2
    again.add("cpu", "opening", "first", 1, process(version="2"))
    assert len(Records(path).measured("opening")[0].processes) == 1


def test_figures_of_two_machines_are_never_joined_and_the_newest_has_the_table(tmp_path: Path) -> None:
    records = Records(tmp_path / "benchmarks.json")
    for number in range(1, 6):
        records.add("old", "opening", "first", number, process(later=[1.0], open=[7.0], first=[2.0]))
        later = process(day="2026-02-01", later=[1.0], open=[3.0], first=[2.0])
        records.add("new, 2 cores", "opening", "first", number, later)
    page = report.render(records)
    assert "| ratio on old |" in page
    assert "| 3.00 s | 3.00 | 3.00 to 3.00 | 3.00 to 3.00 | 5 × 1 | 7.00 (7.00 to 7.00) |" in page
    assert "Fewer than" not in page


def test_a_part_with_fewer_processes_than_show_their_spread_is_named(tmp_path: Path) -> None:
    records = Records(tmp_path / "benchmarks.json")
    records.add("cpu", "opening", "first", 1, process(later=[1.0], open=[3.0], first=[2.0]))
    page = " ".join(report.render(records).split())
    assert f"processes is not known: {opening.TITLE}." in page
    assert "Other work ran" not in page
    disturbed = {**process(later=[1.0], open=[3.0], first=[2.0]), "others": 0.9}
    records.add("cpu", "opening", "first", 2, disturbed)
    assert f"how much: {opening.TITLE}." in " ".join(report.render(records).split())


def test_the_page_of_the_edge_says_what_was_measured_of_watching() -> None:
    found = json.loads((RESULTS / "watching.json").read_text())
    counts = found["counts"]
    sentence = (
        f"Measured over {found['media_seconds'] / 60:.0f} minutes of video time against a real server: "
        f"{counts['answered']} of {counts['windows']} windows were answered. Resident memory was between "
        f"{found['smallest_mib']:.1f} and {found['largest_mib']:.1f} MiB after the warm-up, "
        f"a spread of {found['spread_percent']:.1f} %."
    )
    assert sentence in " ".join((ROOT / "docs/guides/edge.md").read_text(encoding="utf-8").split())


def test_parts_without_figures_are_left_out(tmp_path: Path) -> None:
    assert opening.TITLE not in report.render(Records(tmp_path / "none.json"))


def test_every_case_has_a_name_of_its_own_and_enough_processes() -> None:
    for name in report.PARTS:
        cases = report.part_of(name).CASES
        assert len({case.name for case in cases}) == len(cases)
    assert all(case.processes >= PROCESSES for name in ("peers", "scaling") for case in report.part_of(name).CASES)


def test_tables_keep_bars_inside_their_cells() -> None:
    assert tables.table(("max |d|",), [("1",)]) == "| max \\|d\\| |\n| --- |\n| 1 |"


def test_the_same_figures_give_the_same_chart(records: Records, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        write_chart(records, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    for figures in records.measured("peers")[0].cases.values():
        assert all(BY_KEY[key].label in drawn for key in figures["rows"])


def test_videomae_base_takes_360_gflop_a_clip() -> None:
    size = models.BASE
    geometry = ClipGeometry(frames=16, height=224, width=224, cube=size.cube)
    base = TransformerConfig(
        geometry=geometry, width=size.width, depth=size.depth, heads=size.heads, hidden=size.hidden, classes=400
    )
    assert round(clip_flops(base) / 1e9) == 361


def test_operations_are_those_that_pytorch_counts(tmp_path: Path) -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from lcve_deploy.exporters.checkpoints import load_checkpoint

    models.save_checkpoint(models.TINY, tmp_path / "tiny.pth")
    config = load_checkpoint(tmp_path / "tiny.pth", models.TINY.options).model.config
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        models.videomae(models.TINY)(torch.zeros(1, 3, 8, 32, 32))
    assert counter.get_total_flops() == clip_flops(config)


def test_each_odd_round_reverses_the_order_before_it_and_processes_differ() -> None:
    names = list("abcdefg")
    orders = [measure.Turns(rounds=4, process=number).order(names, turn) for number in (1, 2) for turn in range(4)]
    assert orders[1] == orders[0][::-1]
    assert len({tuple(order) for order in orders}) == 8
    assert all(sorted(order) == names for order in orders)


def test_turns_alternate_and_ratios_are_taken_round_by_round() -> None:
    order: list[str] = []
    times = measure.Turns(rounds=2).take({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, warm_up=0)
    assert order in (["a", "b", "b", "a"], ["b", "a", "a", "b"])
    assert list(times) == ["a", "b"]
    result = measure.ratio([1.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    assert (result.ratio, result.low, result.high, result.first, result.pairs) == (1.0, 0.5, 2.0, 2.0, 3)


def test_the_plain_server_answers_its_own_probe(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=models.TINY)
    verified = verify_server(bench.plain_server)
    assert verified.ok
    assert verified.model.clips == 1
    assert list(verified.keys) == ["plain"]


def test_keys_are_enrolled_from_an_export_without_its_checks(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=models.TINY)
    artifact, options = tmp_path / "unchecked", ExportOptions(checkpoint=models.TINY.options)
    export_without_parity(bench.checkpoint, artifact, bench.key, options)
    assert list(find_keys(artifact / "server")) == ["main"]
    enroll(artifact, "camera-7", tmp_path / "camera", key=bench.key)
    assert (tmp_path / "camera/server/key.json").is_file()


def test_reasons_name_no_folder_of_the_machine() -> None:
    assert reason(RuntimeError("cannot open /srv/a/b/model.onnx: no\nmore")) == "cannot open model.onnx: no"
    assert reason(MemoryError()) == "MemoryError"


def test_sizes_finds_every_stage_of_an_export(tmp_path: Path) -> None:
    figures = sizes.measure_size(models.TINY, tmp_path)
    assert set(sizes._STAGES) <= set(figures["stages"])
    assert figures["peak_bytes"] > figures["artifact_bytes"] > figures["weights_bytes"] > 0
    assert not list(tmp_path.iterdir())
    joined = summary([{**figures, "reference": "float32"}])
    assert sizes._row("tiny", joined, 13)[:2] == ("tiny", "float32")


def test_the_serving_part_measures_both_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not triton_is_there():
        pytest.skip("make triton installs the server that this compares with")
    small = {"_LIGHT": dataclasses.replace(models.TINY, name="light"), "_SLICE": 0.2, "_OPEN_SECONDS": 0.2}
    cells = (("light", "grpc", 1), ("tiny", "grpc", 4), ("tiny", "http", 1))
    for name, value in {**small, "_LOADS": (0.5,), "_CELLS": cells}.items():
        monkeypatch.setattr(serving, name, value)
    found = serving._light(Bench(tmp_path, size=models.TINY), 1)
    assert [cell["ratio"]["ratio"] > 0 for cell in found["cells"]] == [True] * 3
    assert [cell["bare"]["rate"] > 0 for cell in found["cells"] if "bare" in cell] == [True]
    assert {name: row["failed"] for name, row in found["curve"][0].items() if isinstance(row, dict)} == {
        "lcve serve": 0,
        "Triton": 0,
    }
    assert all(memory["most"] >= memory["rest"] > 0 for memory in found["memory"].values())


def test_the_gpu_page_is_made_of_the_results_beside_it() -> None:
    path = RESULTS / "gpu.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    assert (ROOT / "docs/evidence/gpu.md").read_text(encoding="utf-8") == gpu_page.render(results)


def test_the_gpu_script_goes_all_the_way_on_a_cpu(tmp_path: Path) -> None:
    asked = "--device cpu --sizes tiny --batches 1,2 --pairs 1 --backends onnxruntime-cpu --precisions fp32,bf16,int8"
    asked += " --seconds 0.1"
    command = module("gpu", *asked.split(), "--output", tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    tiny = json.loads((tmp_path / "gpu.json").read_text())["sizes"]["tiny"]
    fp32 = tiny["engines"]["onnxruntime-cpu-fp32"]
    assert set(fp32["batches"]) == {"1", "2"}
    assert fp32["difference"] < 1e-5
    assert fp32["top1"] == 1.0
    assert {row["resident"] for row in fp32["batches"].values()} == {True}
    assert fp32["several_keys"]["difference"] < 1e-5
    assert [row["batch"] for row in fp32["first_runs"]] == list(range(1, 9))
    assert all(row["rate"] > 0 for row in fp32["serving"].values())
    assert set(tiny["engines"]["onnxruntime-cpu-int8"]["batches"]) == {"1", "2"}
    assert [row["same_as_numpy"] for row in tiny["encryption"].values()] == [True, True]
    assert all(rate > 0 for rates in tiny["torch_bf16"].values() for rate in rates.values())
    assert re.search("bf16 products|MatMul", tiny["engines"]["onnxruntime-cpu-bf16"]["reason"])
    assert "never" not in (tmp_path / "gpu.md").read_text()


def test_an_error_of_one_figure_ends_no_other_and_is_measured_when_the_run_is_resumed(tmp_path: Path) -> None:
    files, asked = (tmp_path / "gpu.json", tmp_path / "gpu.md"), list[str]()

    def work(name: str, error: Exception | None = None) -> float:
        asked.append(name)
        if error is not None:
            raise error
        return 1.0

    first = gpu.Answers(*files)
    first.begin({"date": "1", "card": "a", "driver": "1", "versions": {}})
    place = first.content.setdefault("figures", {})
    first.figure(place, "one", work, "one")
    first.figure(place, "two", work, "two", TypeError("an argument"))
    first.figure(place, "three", work, "three")
    assert json.loads(files[0].read_text())["figures"] == {
        "one": 1.0,
        "two": {"reason": "TypeError: an argument"},
        "three": 1.0,
    }
    again = gpu.Answers(*files, resume=True)
    again.begin({"date": "2", "card": "a", "driver": "1", "versions": {}})
    for name in ("one", "two", "three"):
        again.figure(again.content["figures"], name, work, name)
    assert asked == ["one", "two", "three", "two"]
    with pytest.raises(SystemExit, match="figures of another card cannot be resumed"):
        gpu.Answers(*files, resume=True).begin({"date": "3", "card": "b", "driver": "1", "versions": {}})


def test_the_gpu_script_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: None)
    with pytest.raises(SystemExit, match="no NVIDIA GPU"):
        gpu._prepare("cuda")


def test_the_table_of_attacks_is_made_of_the_figures_beside_it() -> None:
    figures = json.loads((RESULTS / "attacks.json").read_text())
    page = (ROOT / "docs/evidence/security.md").read_text(encoding="utf-8")
    assert attacks_page.render(figures) in page
    assert render_wire(figures["wire"]) in page
    assert all(subject["controls_hold"] for subject in figures.values())
    videomae = {row["name"]: row for row in figures["videomae"]["attacks"]}
    assert all(found["exact"] == 1.0 for found in videomae["reference"]["recovered"].values())


def sender(refuse: Callable[[int], bool]) -> type[Any]:
    """A stand-in for a client's connection: the server refuses the requests with these numbers."""
    sent = itertools.count()

    class Sender:
        def __init__(self, *_: object) -> None:
            """Take the arguments of a connection."""

        def __enter__(self) -> Callable[[], None]:
            return self.send

        def __exit__(self, *_: object) -> None:
            """Close nothing."""

        def send(self) -> None:
            if refuse(next(sent)):
                raise ConnectionError("the queue is full")

    return Sender


@pytest.mark.parametrize("number", [0, 3, 4, 9], ids=["first warm-up", "last warm-up", "first", "later"])
def test_a_refused_request_ends_a_closed_loop_with_an_error(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(load, "_sync_sender", sender(lambda sent: sent == number))
    with pytest.raises(load.ClientsFailedError, match=r"1 of 4 clients .* the queue is full"):
        load.closed(protocol="grpc", address="", model="", shape=[1], clients=4, seconds=60, count=1000)


def test_a_closed_loop_counts_the_answers_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_sync_sender", sender(lambda sent: False))
    figures = load.closed(protocol="grpc", address="", model="", shape=[1], clients=4, seconds=60, count=100)
    assert figures["answers"] == len(figures["latencies"])
    assert 100 <= figures["answers"] < 104


def test_the_error_of_the_clients_process_reaches_the_benchmark() -> None:
    closed = {"protocol": "grpc", "address": "127.0.0.1:9", "model": "model", "shape": [1], "seconds": 60.0}
    with Clients() as clients, pytest.raises(RuntimeError, match="2 of 2 clients"):
        clients.run("closed", **closed, clients=2)


def test_the_benchmark_of_attention_runs_the_graphs_that_it_writes(tmp_path: Path) -> None:
    size = dataclasses.replace(models.BASE, width=24, heads=2, hidden=48, depth=1, frames=2, pixels=32, classes=3)
    attention._write_graphs(tmp_path / "tiny", size)
    for runtime in ("onnxruntime", "session"):
        assert attention.run_once(tmp_path / "tiny/whole/model.onnx", runtime, 2)["seconds"] > 0
