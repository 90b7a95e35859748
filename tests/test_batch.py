"""Batches: one row a video, whoever is killed; and no key in what Ray keeps."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import batching
from benchmarks.common.processes import LCVE
from lcve_deploy import Client, RemoteOptions, SecurityKey, SessionOptions, open_session, read_clip_file
from lcve_deploy.clips import Binding, Views
from lcve_deploy.errors import MismatchError, SessionError, VideoError, WriteError
from lcve_deploy.model.preprocess import Sampling
from lcve_deploy.verbs.batch import ClusterOptions, Job, assign_cameras, find_videos, run_batch
from lcve_deploy.verbs.batch import cluster as cluster_module
from lcve_deploy.verbs.batch import running as running_module
from lcve_deploy.verbs.batch.cluster import Allocation
from lcve_deploy.verbs.batch.stage import MAX_ATTEMPTS, open_stage
from lcve_deploy.verbs.batch.worker import Worker
from lcve_deploy.verbs.classify import Classifier
from lcve_deploy.video import write_video
from tests.conftest import GEOMETRY, ORACLES, run_error, run_lcve, run_ok
from tests.support import fake_server as fake
from tests.support.artifacts import add_key, binding_of, key_folder
from tests.support.fake_server import Model
from tests.support.lying_server import LyingHttp, http_answer
from tests.support.planting import Planted, files_under

TINY = ORACLES["v1_model_args"]
GOOD = 20
LISTENS = "0A"
"""State of a TCP socket, as Linux shows it."""
PAGE = os.sysconf("SC_PAGE_SIZE")

# Loaded by every Python that finds it: some videos kill who looks at them, and the others take a while.
SITE = """
import os, pathlib, signal, time
exists = pathlib.Path.exists
def watched(self, *how, **more):
    if self.name.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    if self.suffix == ".mp4":
        time.sleep(0.15)
    if self.name.startswith("odd"):
        raise ZeroDivisionError("nobody foresaw this")
    return exists(self, *how, **more)
pathlib.Path.exists = watched
"""


def _video(path: Path, seed: int) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)
    write_video(path, frames.repeat(8, axis=1).repeat(8, axis=2))


def _make_videos(folder: Path, good: int) -> None:
    folder.mkdir()
    for number in range(good):
        _video(folder / f"{number:02d}.mp4", number)
    (folder / "broken.mp4").write_bytes(b"this is no video")
    (folder / "empty.mkv").touch()


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _memory(pid: int) -> Iterator[bytes]:
    """What a process has written to, which is stopped meanwhile: runs of pages that are there."""
    os.kill(pid, signal.SIGSTOP)
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for start, end in _written(pid):
                with contextlib.suppress(OSError):  # not to be read
                    yield os.pread(memory.fileno(), end - start, start)
    finally:
        os.kill(pid, signal.SIGCONT)


def _written(pid: int) -> Iterator[tuple[int, int]]:
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pages:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            region, mode = line.split()[:2]
            if not mode.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in region.split("-"))
            entries = os.pread(pages.fileno(), (end - start) // PAGE * 8, start // PAGE * 8)
            there = np.flatnonzero(np.frombuffer(entries, np.uint64) >> np.uint64(63))
            for run in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):
                if len(run):
                    yield start + int(run[0]) * PAGE, start + int(run[-1] + 1) * PAGE


def _shown(planted: Planted, pids: list[int]) -> set[str]:
    """What shows in memory; not K3, as the order of five classes, one of 120, is anywhere by chance."""
    found = {name for pid in pids for part in _memory(pid) for name in planted.in_bytes(part)}
    return {name for name in found if not name.startswith("K3 ")}


def _finds_order(planted: Planted, pid: int) -> bool:
    """Whether the order of the cubes is in a process: so what is looked for can be found."""
    order = next(data for name, data in planted.data.items() if re.fullmatch(r"K1 [0-9a-f]+, <i8", name))
    return any(order in part for part in _memory(pid))


def _listening(pid: int) -> set[str]:
    """Addresses on which a process takes connections or datagrams; its network may be another than ours."""
    where = {}
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS or name.startswith("udp"):
                where[fields[9]] = _address(fields[1].partition(":")[0])
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").rstrip("]"))
    return {where[inode] for inode in inodes & where.keys()}


def _address(digits: str) -> str:
    """An address as Linux shows it: words of four bytes, each in the order of the machine."""
    words = np.frombuffer(bytes.fromhex(digits), np.dtype(np.uint32).newbyteorder(">")).astype(np.uint32)
    address = ipaddress.ip_address(words.tobytes())
    return str(getattr(address, "ipv4_mapped", None) or address)


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A batch that lost a worker, then its command, and was run again."""

    folder: Path
    attempts: int
    kept: int
    summary: dict[str, Any]
    errors: str
    refused: str
    in_worker: bool
    listening: dict[str, set[str]]
    leaks: dict[str, set[str]]
    session: Path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("batch")
    key = SecurityKey.create()
    key.write(folder / "key.bin")
    run_ok("export", "--key", folder / "key.bin", "--ckpt", TINY.path, "-o", folder / "service", *TINY.flags)
    planted = Planted(key=key, geometry=GEOMETRY, classes=5)
    planted.add_salt(bytes.fromhex(Client.open(folder / "service/client", key).settings.binding.salt))
    _make_videos(folder / "videos", GOOD)
    for name in ("poison.mp4", "odd.mp4"):
        shutil.copy(folder / "videos/00.mp4", folder / "videos" / name)
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(SITE)

    command = ["batch", folder / "videos", folder / "videos/03.mp4", folder / "gone.mp4", "--workers", 2, "--json"]
    command += ["--artifact", folder / "service", "--key", folder / "key.bin", "-o", folder / "table.parquet"]
    stage = folder / ".table.parquet.part"
    process = batching.start(*command, PYTHONPATH=str(folder / "site"))
    batching.wait_until(lambda: len(batching.results(stage)) >= 4, process)
    listening = {}
    for pid in (process.pid, *batching.descendants(process.pid)):
        with contextlib.suppress(OSError):  # it has ended
            name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            listening[f"{pid} {name}"] = _listening(pid)
    in_worker = any(_finds_order(planted, pid) for pid in batching.workers(process.pid))  # one may not have begun
    batching.kill_worker(process)
    batching.wait_until(lambda: len(batching.results(stage)) >= 10, process)
    started = batching.descendants(process.pid)
    others = [pid for name in (b"raylet/", b"gcs_server") for pid in batching.named(started, name)]
    assert len(others) >= 2
    leaks = {"Ray's own processes": _shown(planted, others)}
    attempts = len(list((stage / "tried").iterdir()))
    batching.kill_command(process)
    kept = len(batching.results(stage))
    session = Path((stage / "session").read_text())
    for name, where in (("session", session), ("stage", stage)):
        data = [path.read_bytes() for path in files_under(where)]
        assert data
        leaks[name] = {found for part in data for found in planted.in_bytes(part)}
    refused = run_error(*command, "--views", "2x1")
    process = batching.start(*command, PYTHONPATH=str(folder / "site"))
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    leaks["printed"] = set(planted.in_text(printed + errors))
    return Killed(
        folder=folder,
        attempts=attempts,
        kept=kept,
        summary=json.loads(printed),
        errors=errors,
        refused=refused,
        in_worker=in_worker,
        listening=listening,
        leaks=leaks,
        session=session,
    )


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@LINUX
def test_every_row_is_there_once_whoever_was_killed(killed: Killed) -> None:
    rows = _rows(killed.folder / "table.parquet")
    videos = sorted((killed.folder / "videos").iterdir())
    assert [row["path"] for row in rows] == [str(path) for path in [*videos, killed.folder / "gone.mp4"]]
    errors = {Path(row["path"]).name: row["error"] for row in rows if row["error"]}
    assert set(errors) == {"broken.mp4", "empty.mkv", "gone.mp4", "odd.mp4", "poison.mp4"}
    assert "cannot be read as a video" in errors["broken.mp4"]
    assert "is empty" in errors["empty.mkv"]
    assert "there is no video" in errors["gone.mp4"]
    assert "its worker was lost in each of 3 attempts" in errors["poison.mp4"]
    assert "3 of 3 attempts failed; the last failure: ZeroDivisionError: nobody foresaw this" in errors["odd.mp4"]
    assert [Path(failure["path"]).name for failure in killed.summary["failures"]] == list(errors)
    assert {Path(failure["path"]).name: failure["error"] for failure in killed.summary["failures"]} == errors
    assert 10 <= killed.kept == killed.summary["kept"] < len(rows)
    assert killed.summary["rows"] == len(rows)
    assert killed.summary["errors"] == 5
    redone = killed.summary["attempts"] - (len(rows) - killed.kept)
    assert 0 <= redone <= 2 * (MAX_ATTEMPTS - 1)  # at the two videos that end their workers
    assert f"{len(rows)} of {len(rows)}, " in killed.errors
    assert "5 with an error" in killed.errors
    assert "ray" not in killed.errors.lower()


@LINUX
def test_rows_are_what_lcve_run_says(killed: Killed) -> None:
    row = _rows(killed.folder / "table.parquet")[0]
    one = run_ok("run", killed.folder / "service", row["path"], "--key", killed.folder / "key.bin", "--json")
    predictions = json.loads(one)["predictions"]
    assert row["classes"] == [prediction["name"] for prediction in predictions]
    assert row["probabilities"] == pytest.approx([prediction["probability"] for prediction in predictions], abs=1e-6)
    assert row["views"] == "1x1"


@LINUX
def test_ray_is_given_no_key_and_no_order(killed: Killed) -> None:
    assert killed.in_worker
    assert killed.leaks == {name: set() for name in ("Ray's own processes", "session", "stage", "printed")}


@LINUX
def test_every_process_of_ray_listens_on_loopback_alone(killed: Killed) -> None:
    open_to = {name: found for name, found in killed.listening.items() if found}
    listeners = " ".join(open_to)
    assert all(name in listeners for name in ("gcs_server", "raylet", "ray::MapWorker"))
    assert all(ipaddress.ip_address(address).is_loopback for found in open_to.values() for address in found), open_to


@LINUX
def test_nothing_is_left_behind_and_the_stage_takes_no_other_batch(killed: Killed) -> None:
    assert not [path for path in killed.folder.iterdir() if path.name.startswith(".")]
    assert not killed.session.exists()
    assert "an unfinished batch with other settings" in killed.refused
    assert "views 1x1 there, 2x1 here" in killed.refused
    assert "nothing is overwritten" in run_error(
        *("batch", killed.folder / "videos", "--artifact", killed.folder / "service"),
        *("--key", killed.folder / "key.bin", "-o", killed.folder / "table.parquet"),
    )


class Studio:
    """What a batch takes, and one that runs in this process, without Ray."""

    def __init__(self, folder: Path, service: Path, key_file: Path) -> None:
        self.folder, self.service, self.key_file = folder, service, key_file
        _make_videos(folder / "videos", 2)
        self.videos = find_videos([str(folder / "videos")])

    def job(self, **more: Any) -> Job:
        return Job(**{"key_file": self.key_file, "artifact": self.service, **more})

    def run(self, output: str = "table.parquet", **more: Any) -> Any:
        return run_batch(self.videos, self.folder / output, self.job(**more), ClusterOptions())


@pytest.fixture
def studio(exported: Path, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    from contextlib import nullcontext

    def process(ray: Any, allocation: Allocation, missing: Any, job: Job, stage: Any) -> Iterator[bool]:
        worker = Worker(job, stage, allocation.threads)
        for video in missing:
            fields = {
                "row": video.row,
                "path": os.fsencode(video.path),
                "clip": video.clip,
                "camera": video.camera,
            }
            (answer,) = worker(pa.Table.from_pylist([fields])).to_pylist()
            yield running_module._failed(answer)

    monkeypatch.setattr(running_module, "_process", process)
    allocation = Allocation(workers=1, threads=1, gpus=0)
    monkeypatch.setattr(running_module, "connect", lambda *about: nullcontext((None, allocation)))
    return Studio(tmp_path, exported, key_file)


def test_encrypted_clips_come_with_their_table(studio: Studio) -> None:
    studio.run("clips", encrypt_only=True, views=Views(temporal=2, spatial=1), sampling=Sampling.KINETICS, stride=4)
    rows = _rows(studio.folder / "clips/clips.parquet")
    assert [row["clip"] for row in rows] == ["00.lcve", "01.lcve", None, None]
    assert {path.name for path in (studio.folder / "clips").iterdir()} == {"00.lcve", "01.lcve", "clips.parquet"}
    for row in rows[:2]:
        path = studio.folder / "clips" / row["clip"]
        assert row["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row["views"] == str(read_clip_file(path).views) == "2x1"
        single = studio.folder / f"single-{row['clip']}"
        key = ("--key", studio.key_file, "--client", studio.service / "client")
        run_ok("encrypt", row["path"], *key, "-o", single, "--views", "2x1", "--sampling", "kinetics", "--stride", 4)
        assert single.read_bytes() == path.read_bytes()
        assert [note.split(",")[0] for note in row["notes"]] == ["the video has 12 frames"]
    assert all(row["error"] and row["notes"] is None for row in rows[2:])
    assert not [path for path in studio.folder.iterdir() if path.name.startswith(".")]


def test_workers_give_their_threads_to_the_engine(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from lcve_deploy.verbs.batch import opened as opened_module

    seen = []

    def opened(server: Path, options: SessionOptions) -> Any:
        seen.append(options.threads)
        return open_session(server, options)

    monkeypatch.setattr(opened_module, "open_session", opened)
    studio.run()
    assert seen == [1]
    assert ClusterOptions(threads=3).allocate(12) == Allocation(workers=4, threads=3, gpus=0)


def test_a_client_folder_is_enough_to_encrypt(studio: Studio) -> None:
    studio.run("clips", encrypt_only=True, artifact=None, client=studio.service / "client")
    assert read_clip_file(studio.folder / "clips/00.lcve").views == Views()


def test_logits_are_those_of_lcve_run(studio: Studio) -> None:
    studio.run(logits=True, top=2, views=Views(temporal=2, spatial=1))
    row = _rows(studio.folder / "table.parquet")[0]
    output = studio.folder / "logits.npy"
    run_ok(
        *("run", studio.service, row["path"], "--key", studio.key_file, "--views", "2x1"),
        *("--logits-out", output),
    )
    np.testing.assert_allclose(row["logits"], np.load(output), atol=1e-6)
    assert len(row["classes"]) == len(row["probabilities"]) == 2


@pytest.fixture
def server(studio: Studio) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``lcve serve`` with the artifact, and the address of its model."""
    ports = [word for name in ("http", "grpc", "metrics") for word in (f"--{name}-port", "0")]
    command = ["serve", f"model={studio.service / 'server'}", *ports, "--json"]
    with subprocess.Popen([*LCVE, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield f"grpc://127.0.0.1:{json.loads(process.stdout.readline())['grpc']}/model", process
        process.terminate()


def test_a_server_answers_as_an_engine_does(
    studio: Studio, server: tuple[str, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, process = server
    views = {"views": Views(temporal=2, spatial=1), "logits": True}
    studio.run("engine.parquet", **views)
    client = studio.service / "client"
    studio.run("server.parquet", artifact=None, client=client, server=address, **views)
    rows, expected = (_rows(studio.folder / f"{name}.parquet") for name in ("server", "engine"))
    for row, other in zip(rows, expected, strict=True):
        assert (row["path"], row["classes"], row["error"]) == (other["path"], other["classes"], other["error"])
        if row["error"] is None:
            np.testing.assert_allclose(row["logits"], other["logits"], atol=1e-5)

    answer = Worker._classify

    def ends_after_one(worker: Worker, path: Path, classifier: Classifier) -> dict[str, Any]:
        if path.name != "00.mp4":
            process.kill()
            process.wait()
        return answer(worker, path, classifier)

    about = {"artifact": None, "client": client, "server": address, "remote": RemoteOptions(deadline=3, retries=0)}
    monkeypatch.setattr(Worker, "_classify", ends_after_one)
    with pytest.raises(SessionError):
        studio.run("lost.parquet", **about)
    assert [path.name for path in (studio.folder / ".lost.parquet.part/rows").iterdir()] == ["0.json"]


def _other_classes(binding: Binding, classes: int) -> fake.Model:
    """A model for the same clips, with another number of classes; its server names no binding."""
    model = fake.Model(binding, bound=False)
    model.change_metadata = lambda message: message.outputs[0].shape.__setitem__(1, classes)
    model.change_config = lambda message: message.output[0].dims.__setitem__(0, classes)
    return model


def test_a_server_with_other_classes_is_one_error_and_gets_no_clip(studio: Studio) -> None:
    client = studio.service / "client"
    settings = Client.open(client, SecurityKey.read(studio.key_file)).settings
    model = _other_classes(settings.binding, len(settings.classes) + 2)
    with fake.GrpcServer(model) as server:
        with pytest.raises(SessionError, match=r"outputs.*-1, 7.*expected.*-1, 5") as caught:
            studio.run(artifact=None, client=client, server=server.address)
        assert "serves the server/ folder that belongs to this client/ folder" in str(caught.value)
        key = ("--key", studio.key_file, "--client", client)
        said = run_error("run", server.address, studio.videos[0].path, *key)
        watched = run_error("watch", studio.videos[0].path, "--server", server.address, *key)
    for text in (said, watched):
        assert "expected [('logits', 'FP32', [-1, 5])]" in text
    assert model.infers == []
    with pytest.raises(MismatchError, match=r"5 classes, received \[1, 7\]"):
        Client.open(client, SecurityKey.read(studio.key_file)).plain_order(np.zeros((1, 7)))


def test_a_row_that_is_done_is_not_done_again(studio: Studio) -> None:
    identity = studio.job().identity(studio.videos)
    with open_stage(studio.folder / "table.parquet", identity) as stage:
        stage.write(0, {"classes": ["kept"], "probabilities": [1.0], "error": None, "seconds": 0.0})
        stage.write(0, {"error": "too late", "seconds": 0.0})
    result = studio.run()
    assert (result.tally.kept, result.tally.rows, result.tally.errors, result.attempts) == (1, 4, 2, 3)
    assert _rows(studio.folder / "table.parquet")[0]["classes"] == ["kept"]


def test_two_commands_do_not_share_a_stage(studio: Studio) -> None:
    job = studio.job()
    with (
        open_stage(studio.folder / "table.parquet", job.identity(studio.videos)),
        pytest.raises(FileExistsError, match="another lcve batch is working"),
    ):
        studio.run()


@pytest.mark.parametrize("settings", [b"{", b"[]", b"\xff"])
def test_settings_that_are_damaged_are_refused(studio: Studio, settings: bytes) -> None:
    (studio.folder / ".table.parquet.part").mkdir()
    (studio.folder / ".table.parquet.part/settings.json").write_bytes(settings)
    with pytest.raises(MismatchError):
        studio.run()


def test_what_befalls_every_row_ends_the_batch_and_keeps_the_stage(studio: Studio) -> None:
    with pytest.raises(SessionError, match="nothing"):
        studio.run(session=SessionOptions(engine="nothing"))
    assert (studio.folder / ".table.parquet.part").is_dir()
    assert not (studio.folder / "table.parquet").exists()
    studio.run(output="other.parquet")


def test_a_disk_that_is_full_ends_the_batch(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*about: Any, **how: Any) -> None:
        raise WriteError("no space left")

    monkeypatch.setattr("lcve_deploy.verbs.batch.worker.write_clip_file", full)
    with pytest.raises(SessionError, match="no space left"):
        studio.run("clips", encrypt_only=True)
    assert not (studio.folder / "clips").exists()


def test_videos_are_files_folders_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.mp4", "b/1.MKV", "b/notes.txt", "b/deep/1.avi", "b/.hidden", "frames/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    odd = os.fsdecode(b"\xff.mp4")
    (tmp_path / "list.txt").write_bytes(b"a.mp4\n\nframes\n\xff.mp4\r\n./b/2.mp4\n")
    videos = find_videos(["a.mp4", "b", "@list.txt", str(tmp_path / "a.mp4")])
    assert [video.given for video in videos] == ["a.mp4", "b/1.MKV", "b/2.mp4", "b/deep/1.avi", "frames", odd]
    assert videos[0].path == str(tmp_path / "a.mp4")
    assert [video.clip for video in videos][1:4] == ["1.lcve", "2.lcve", "1-2.lcve"]
    assert [video.row for video in videos] == list(range(6))
    (tmp_path / "none").mkdir()
    for names in (["none"], []):
        with pytest.raises(VideoError):
            find_videos(names)
    assert len(os.fsencode(find_videos(["é" * 130 + ".mp4"])[0].clip)) <= 205


def test_options_that_mean_nothing_are_refused(exported: Path, key_file: Path, tmp_path: Path) -> None:
    client, server = ("--client", exported / "client"), ("--server", "grpc://localhost:1/model")
    cases: dict[tuple[object, ...], str] = {
        (): "pass either --artifact or --client",
        ("--artifact", exported, *client): "pass either --artifact or --client",
        client: "--client needs either --server or --encrypt-only",
        (*client, *server, "--encrypt-only"): "--client needs either --server or --encrypt-only",
        ("--artifact", exported, *server): "--server needs --client",
        (*client, *server, "--threads", 1): "--threads: only for an artifact on this machine",
        ("--artifact", exported, "--deadline", 1): "--deadline: only with --server",
        ("--artifact", exported, "--encrypt-only", "--top", 3): "--top: no model runs with --encrypt-only",
        ("--artifact", tmp_path): "",
    }
    for given, said in cases.items():
        assert said in run_error("batch", "a.mp4", "--key", key_file, "-o", tmp_path / "t.parquet", *given)
    assert not list(tmp_path.iterdir())


def test_a_batch_whose_rows_all_fail_exits_with_1(studio: Studio) -> None:
    command = ("--artifact", studio.service, "--key", studio.key_file)
    for number, (names, strict, code) in enumerate(
        [(["00.mp4", "empty.mkv"], (), 0), (["00.mp4", "empty.mkv"], ("--strict",), 1), (["empty.mkv"], (), 1)]
    ):
        videos = [studio.folder / "videos" / name for name in names]
        output = studio.folder / f"{number}.parquet"
        ran = run_lcve("batch", *videos, *command, "-o", output, *strict)
        assert ran.exit_code == code
        assert len(_rows(output)) == len(names)
        (line,) = [line for line in ran.stderr.splitlines() if line.startswith("no result: ")]
        assert line == f"no result: {videos[-1]}: {_rows(output)[-1]['error']}"


def test_the_videos_that_are_named_at_the_end_move_no_cursor(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lcve_deploy.cli.batch._MAX_LISTED", 2)
    videos = [studio.folder / f"\x9b2J\x07{number}.mp4" for number in range(5)]
    ran = run_lcve(
        *("batch", *videos, "--artifact", studio.service, "--key", studio.key_file),
        *("-o", studio.folder / "table.parquet"),
    )
    assert ran.output.replace("\n", "").isprintable()
    assert ran.stderr.count("no result: ") == 3
    assert "no result: 3 more; see the table" in ran.stderr


def test_ray_reports_nothing_to_its_maker_and_packs_no_folder() -> None:
    program = """
import os
from lcve_deploy.libraries.ray import load_ray
load_ray("a test")
from ray._private import ray_constants
from ray._common.usage import usage_lib
print(usage_lib.usage_stats_enabled(), ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV)
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "False"]


class FakeRay:
    """As much of Ray as starting a cluster takes."""

    class exceptions:  # noqa: N801
        class RayError(Exception):
            pass

    def __init__(self, address: str = "127.0.0.1", fails: Exception | None = None) -> None:
        self.util, self._fails, self.started = self, fails, dict[str, Any]()
        self._address = address

    def get_node_ip_address(self) -> str:
        return self._address

    def init(self, **how: Any) -> None:
        self.started = how
        if self._fails:
            raise self._fails

    def shutdown(self) -> None:
        pass


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeRay], None]:
    """Connects to a cluster of a fake Ray, on this machine."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "as it was")

    def connecting(ray: FakeRay) -> None:
        monkeypatch.setattr(cluster_module, "load_ray", lambda purpose: ray)
        with cluster_module.connect(ClusterOptions(), tmp_path / "session", tmp_path / "log"):
            assert os.environ["RAY_AUTH_TOKEN"] != "as it was"
        assert not (tmp_path / "session").exists()

    return connecting


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Exception("The current node timed out during startup. This\ncould happen"), "has not started in time: The cu"),
        (RuntimeError("Maybe you called ray.init twice"), "cannot be started or reached: Maybe you called"),
        (FakeRay.exceptions.RayError("token"), "cannot be started or reached: token"),
        (TimeoutError(), "cannot be started or reached: TimeoutError"),
    ],
)
def test_ray_that_does_not_start_is_one_error(connect: Callable[[FakeRay], None], error: Exception, said: str) -> None:
    with pytest.raises(SessionError, match=re.escape(said)) as caught:
        connect(FakeRay(fails=error))
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_an_error_that_is_not_of_ray_is_not_called_one(connect: Callable[[FakeRay], None]) -> None:
    with pytest.raises(ZeroDivisionError):
        connect(FakeRay(fails=ZeroDivisionError()))


def test_ray_that_would_listen_on_all_interfaces_is_not_started(connect: Callable[[FakeRay], None]) -> None:
    connect(ray := FakeRay())
    assert (ray.started["address"], ray.started["_node_ip_address"]) == ("local", "127.0.0.1")
    ray = FakeRay("192.0.2.1")
    with pytest.raises(SessionError, match=r"192\.0\.2\.1, .*instead of loopback only"):
        connect(ray)
    assert not ray.started


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ValueError"),
        ("one\ntwo", "one"),
        ("\x1b[36mray::A()\x1b[39m\n  File x\n    x()\nKeyError: 'a\nb'", "KeyError: 'a b'"),
    ],
)
def test_errors_of_ray_are_one_line(text: str, said: str) -> None:
    assert cluster_module._error_line(ValueError(text)) == said


def test_workers_that_are_lost_while_they_open_end_the_batch(studio: Studio) -> None:
    def lost(host: str = socket.gethostname()) -> Path:
        with subprocess.Popen(["true"]) as process:
            process.wait()
        (path := stage.openings.folder / f"{host}.{process.pid}").touch()
        return path

    fields = {"row": 0, "path": os.fsencode(studio.videos[0].path), "clip": "0.lcve", "camera": ""}
    identity = studio.job().identity(studio.videos)
    with open_stage(studio.folder / "table.parquet", identity) as stage:
        alive = stage.openings.folder / f"{socket.gethostname()}.{os.getppid()}"
        alive.touch()
        elsewhere = [lost("elsewhere") for _ in range(MAX_ATTEMPTS)]  # whether these run cannot be seen from here
        paths = [lost(), lost()]
        (answer,) = Worker(studio.job(), stage, 1)(pa.Table.from_pylist([fields])).to_pylist()
        assert (answer["failed"], answer["problem"]) == (False, None)
        assert all(path.exists() for path in (alive, *elsewhere))
        assert not any(path.exists() for path in paths)
        for _ in range(MAX_ATTEMPTS):
            lost()
        (answer,) = Worker(studio.job(), stage, 1)(pa.Table.from_pylist([fields])).to_pylist()
        assert "3 workers in a row were lost while they opened" in answer["problem"]


def test_attempts_that_failed_and_attempts_that_were_lost_are_told_apart(studio: Studio) -> None:
    identity = studio.job().identity(studio.videos)
    with open_stage(studio.folder / "table.parquet", identity) as stage:
        for _ in range(MAX_ATTEMPTS - 1):
            assert stage.begin(0)
        with pytest.raises(ZeroDivisionError), stage.record_failure(0):
            raise ZeroDivisionError("a\nb" * 1000)
        assert stage.begin(0)
        assert not stage.begin(0)
        fields = {"row": 0, "path": os.fsencode(studio.videos[0].path), "clip": "0.lcve", "camera": ""}
        Worker(studio.job(), stage, 1)(pa.Table.from_pylist([fields]))
        error = stage.read(0)["error"]
    assert error.startswith("1 of 3 attempts failed; in 2 others the worker was lost; the last failure: ZeroDivisionEr")
    assert len(error) < 500


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"outputs":[' + b"{}," * 1_000_000 + b"{}]}", b'{"model_name":"digits","outputs":[]}'],
    ids=["deep", "huge", "no output"],
)
def test_a_server_that_lies_is_the_error_of_each_video(studio: Studio, body: bytes) -> None:
    client = studio.service / "client"
    binding = studio.job().open_client().settings.binding
    with LyingHttp(Model(binding), {"infer": http_answer(body)}) as server:
        studio.run("table.parquet", artifact=None, client=client, server=server.address)
    errors = pq.read_table(studio.folder / "table.parquet").column("error").to_pylist()
    assert sum("127.0.0.1" in error for error in errors) == 2  # two other files are no videos
    assert all(len(error) < 500 for error in errors)


def test_a_cluster_that_is_not_there_is_one_error(exported: Path, key_file: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ("batch", tmp_path / "a.mp4", "--artifact", exported, "--key", key_file, "-o", tmp_path / "t.parquet")
    error = run_error(*command, "--ray-address", f"127.0.0.1:{port}")
    assert f"no Ray cluster at 127.0.0.1:{port}" in error


# Many cameras, each with its key


CAMERAS = ("camera-7", "camera-8")


@pytest.fixture
def cameras(studio: Studio, tmp_path: Path) -> Path:
    """Two cameras, enrolled and applied; each has the same video, and one has another in a subfolder."""
    service = Path(shutil.copytree(studio.service, tmp_path / "fleet"))
    names = tmp_path / "names.txt"
    names.write_text("\n".join(CAMERAS))
    run_ok("enroll", service, "--key", studio.key_file, "--names", names, "-o", tmp_path / "enrolled")
    for name in CAMERAS:
        add_key(service / "server", tmp_path / "enrolled" / name / "server", name)
        (tmp_path / "cameras" / name / "today").mkdir(parents=True)
        shutil.copy(studio.videos[0].path, tmp_path / "cameras" / name / "a.mp4")
    shutil.copy(studio.videos[1].path, tmp_path / "cameras" / CAMERAS[0] / "today/b.mp4")
    studio.service, studio.folder = service, tmp_path
    studio.videos = assign_cameras(find_videos([str(tmp_path / "cameras")]), tmp_path / "enrolled")
    return tmp_path / "enrolled"


def test_every_video_has_the_key_of_its_camera(studio: Studio, cameras: Path) -> None:
    studio.run(key_file=None, enrolled=cameras)
    rows = pq.read_table(studio.folder / "table.parquet").to_pylist()
    assert [row["camera"] for row in rows] == ["camera-7", "camera-7", "camera-8"]
    assert [row["error"] for row in rows] == [None] * 3
    for row in rows:
        one = ("--key", cameras / row["camera"] / "key.bin", "--client", cameras / row["camera"] / "client", "--json")
        answer = json.loads(run_ok("run", studio.service / "server", row["path"], *one))
        assert row["classes"] == [prediction["name"] for prediction in answer["predictions"]]
    studio.run("clips", key_file=None, enrolled=cameras, artifact=None, encrypt_only=True)
    table = pq.read_table(studio.folder / "clips/clips.parquet").to_pylist()
    for row in table:
        binding = read_clip_file(studio.folder / "clips" / row["clip"]).clip.binding
        assert binding == binding_of(studio.service / "server", row["camera"])


def test_a_key_that_the_operator_removed_is_the_failure_of_its_rows(studio: Studio, cameras: Path) -> None:
    identity = Job.identity

    def then_remove(job: Job, videos: Any) -> Any:
        found = identity(job, videos)
        shutil.rmtree(key_folder(studio.service / "server", "camera-8"))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "identity", then_remove)
        studio.run(key_file=None, enrolled=cameras)
    rows = pq.read_table(studio.folder / "table.parquet").to_pylist()
    assert [row["error"] is None for row in rows] == [True, True, False]
    assert "no key" in rows[2]["error"]


def test_cameras_that_cannot_be_used_are_one_clear_error(studio: Studio, cameras: Path) -> None:
    videos, output = studio.folder / "cameras", studio.folder / "table.parquet"
    target = ("--artifact", studio.service, "-o", output)
    given = ("batch", videos, *target, "--enrolled", cameras)
    assert "pass either --key or --enrolled" in run_error(*given, "--key", studio.key_file)
    assert "pass either --key or --enrolled" in run_error("batch", videos, *target)
    assert "leave out --client" in run_error(*given, "--client", cameras / "camera-7/client")
    assert "--enrolled without --artifact needs" in run_error("batch", videos, "--enrolled", cameras, "-o", output)
    lost = studio.folder / "videos"
    error = run_error("batch", lost, *target, "--enrolled", cameras)
    assert "are in no folder with the name of a camera" in error
    assert "has no folder of a camera with key.bin" in run_error("batch", videos, *target, "--enrolled", lost)
    shutil.copy(studio.key_file, cameras / "camera-8/key.bin")
    assert "does not belong" in run_error(*given)
    assert not output.exists()
