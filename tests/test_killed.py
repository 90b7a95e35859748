"""Commands that are killed at any step leave the old state or the new, and can be run again."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import Client, SecurityKey, read_clip_file, verify_engine, verify_server
from lcve_deploy.artifact import list_engines, open_key, read_engine, read_manifest
from lcve_deploy.deployments.triton.model_folder import read_config
from tests.conftest import ORACLE, ORACLES, SECRET, run_ok
from tests.keys.helpers import NEW_KEY
from tests.support.artifacts import contents
from tests.support.engines import write_own_engine
from tests.support.killing import Ended, Killer, killer

TINY = ORACLES["v1_model_args"]
FORMAT_1 = Path(__file__).parent / "data/format_1"
CAMERA = SecurityKey(SECRET).derive("camera-7")


@pytest.fixture(scope="module")
def kill() -> Iterator[Killer]:
    with killer() as server:
        yield server


@pytest.fixture(scope="module")
def _inputs(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whatever a command takes: keys, artifacts, one with an engine, a clip, the key of a camera."""
    folder = tmp_path_factory.mktemp("inputs") / "in"
    shutil.copytree(exported, folder / "service")
    SecurityKey(SECRET).write(folder / "key.bin")
    NEW_KEY.write(folder / "new.bin")
    shutil.copy(ORACLE / "clip_8x32x32.npy", folder / "clip.npy")
    key = ("--key", folder / "key.bin")
    client = ("--client", exported / "client")
    run_ok("encrypt", folder / "clip.npy", *key, *client, "-o", folder / "clip.lcve")
    run_ok("build", folder / "service/server", "--runtime", "onnxruntime", "--name", "old")
    run_ok("enroll", folder / "service", *key, "--name", "camera-7", "-o", folder / "camera-7")
    shutil.copytree(FORMAT_1, folder / "old")
    (folder / "names.txt").write_text("a\nb\nc\n")
    return folder


@pytest.fixture
def inputs(_inputs: Path, tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return Path(shutil.copytree(_inputs, tmp_path / "in"))


def _is_key(path: Path, key: SecurityKey | None) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key in (None, SecurityKey.read(path))


def _is_clip(path: Path) -> None:
    values = read_clip_file(path).clip.values
    assert np.array_equal(np.sort(values, axis=None), np.sort(np.load(ORACLE / "clip_8x32x32.npy"), axis=None))


def _is_server(path: Path, *engines: str) -> None:
    assert verify_server(path).ok
    assert list_engines(path) == engines
    assert all(verify_engine(path, engine).ok for engine in engines)


def _is_artifact(path: Path, key: SecurityKey, *engines: str) -> None:
    _is_server(path / "server", *engines)
    Client.open(path / "client", key)
    run_ok("inspect", path)


def _is_key_of(path: Path, key: SecurityKey, *, with_key: bool = False) -> None:
    """Both sides of a key; the model is in ``in``."""
    if with_key:
        _is_key(path / "key.bin", key)
    Client.open(path / "client", key)
    model = read_manifest(next(parent for parent in path.parents if (parent / "in").is_dir()) / "in/service/server")
    open_key(path / "server", model).verify()


def _is_added(path: Path) -> None:
    assert sorted(verify_server(path.parents[1]).keys) == ["camera-7", "main"]
    _is_server(path.parents[1], "old")


def _is_repository(path: Path) -> None:
    assert read_config(path / "m-main").name == "m-main"
    assert (path / "m-main/1/model.onnx").is_file()


def _is_engine(path: Path) -> None:
    _is_server(path.parents[1], path.name, "old")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command of arguments from ``in``, what it makes, and what holds once that is there."""

    command: str
    target: str
    holds: Callable[[Path], None]

    def arguments(self, root: Path) -> list[str]:
        named = re.sub(r"\b(in|out)/", rf"{root}/\1/", self.command)
        return named.replace("TINY", f"{TINY.path} {' '.join(TINY.flags)}").split()


BUILD = "build in/service/server --runtime onnxruntime --clip in/clip.lcve --budget 1 --precision"
CASES = {
    "keygen": Case(command="keygen -o out/key.bin", target="out/key.bin", holds=partial(_is_key, key=None)),
    "derived key": Case(
        command="keygen --from in/key.bin --name camera-7 -o out/camera.bin",
        target="out/camera.bin",
        holds=partial(_is_key, key=CAMERA),
    ),
    "encrypt": Case(
        command="encrypt in/clip.npy --key in/key.bin --client in/service/client -o out/clip.lcve",
        target="out/clip.lcve",
        holds=_is_clip,
    ),
    "export": Case(
        command="export --key in/key.bin --ckpt TINY -o out/service --runtime onnxruntime",
        target="out/service",
        holds=lambda path: _is_artifact(path, SecurityKey(SECRET), "onnxruntime-fp32"),
    ),
    "rotate": Case(
        command="rotate in/service --key in/key.bin --new-key in/new.bin -o out/rotated",
        target="out/rotated",
        holds=partial(_is_key_of, key=NEW_KEY),
    ),
    "enroll": Case(
        command="enroll in/service --key in/key.bin --name camera-7 -o out/camera-7",
        target="out/camera-7",
        holds=partial(_is_key_of, key=CAMERA, with_key=True),
    ),
    "apply": Case(
        command="apply in/service/server in/camera-7/server", target="in/service/server/keys/camera-7", holds=_is_added
    ),
    "convert": Case(
        command="convert in/old --key in/key.bin -o out/new",
        target="out/new",
        holds=lambda path: _is_artifact(path, SecurityKey(SECRET)),
    ),
    "triton": Case(command="triton m=in/service/server -o out/models", target="out/models", holds=_is_repository),
    "build": Case(command=f"{BUILD} int8 --name new", target="in/service/server/engines/new", holds=_is_engine),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A case in a folder of its own, and what was there before."""

    case: Case
    root: Path
    kill: Killer
    before: dict[str, bytes]

    @property
    def target(self) -> Path:
        return self.root / self.case.target

    def run(self, **how: float) -> Ended:
        return self.kill.run(*self.case.arguments(self.root), **how)  # type: ignore[arg-type]

    def check(self) -> bool:
        """Old state or new; the new one is put away again. Says whether it was there."""
        there = self.target.exists()
        if there:
            self.case.holds(self.target)
            shutil.rmtree(self.target) if self.target.is_dir() else self.target.unlink()
        assert self.visible() == self.before
        return there

    def visible(self) -> dict[str, bytes]:
        """All files but leftovers, which have hidden names."""
        files = {path.relative_to(self.root).as_posix(): path for path in self.root.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in files.items() if not re.search(r"(^|/)\.[^/]+\.part", name)}


@pytest.fixture(params=CASES)
def scene(request: pytest.FixtureRequest, kill: Killer, inputs: Path) -> Scene:
    return Scene(case=CASES[request.param], root=inputs.parent, kill=kill, before=contents(inputs.parent))


def test_killed_before_any_step_on_files(scene: Scene) -> None:
    """Leftovers pile up from kill to kill, and the command still works."""
    whole = scene.run()
    assert whole.code == 0, whole.printed
    assert scene.check()
    states = []
    for step in range(1, len(whole.steps) + 1):
        ended = scene.run(step=step)
        assert ended.code is None, ended.printed
        states.append(scene.check())
    assert states == sorted(states)  # once it is there, it is there
    assert states[0] is False
    assert states[-1] is True
    again = scene.run()
    assert again.code == 0, again.printed
    assert scene.check()


def test_killed_within_a_write(scene: Scene) -> None:
    assert scene.run().code == 0
    made = scene.target.rglob("*") if scene.target.is_dir() else [scene.target]
    largest = max(path.stat().st_size for path in made if path.is_file())
    assert scene.check()
    for size in sorted({0, 1, 8, 40, 4096, largest // 2, largest - 1}):
        if size < largest:
            ended = scene.run(size=size)
            assert ended.code is None, ended.printed
            assert scene.check() is False
    assert scene.run().code == 0
    assert scene.check()


def test_many_names_are_whole_or_not_there_and_go_on(kill: Killer, inputs: Path) -> None:
    """Killed again and again at a step of its work, each time from where it ended before."""
    output, master = inputs.parent / "out/many", SecurityKey(SECRET)
    command = ("enroll", inputs / "service", "--key", inputs / "key.bin", "--names", inputs / "names.txt", "-o", output)
    steps = len(kill.run(*command).steps)
    shutil.rmtree(output)
    seen = []
    for step in range(1, steps + 1):
        ended = kill.run(*command, step=step)
        names = {path.name for path in output.glob("[!.]*")}
        for name in names:
            _is_key_of(output / name, master.derive(name), with_key=True)
        seen.append(len(names))
        if ended.code == 0:
            break
    assert seen == sorted(seen)
    assert {1, 2} <= set(seen)
    assert kill.run(*command).code == 0
    assert {path.name for path in output.glob("[!.]*")} == {"a", "b", "c"}


def test_killed_at_any_time(kill: Killer, inputs: Path) -> None:
    scene = Scene(case=CASES["export"], root=inputs.parent, kill=kill, before=contents(inputs.parent))
    started = time.monotonic()
    assert scene.run().code == 0
    lasts = time.monotonic() - started
    assert scene.check()
    for _ in range(12):
        scene.run(delay=random.uniform(0, lasts))  # noqa: S311
        scene.check()
    assert scene.run().code == 0
    assert scene.check()


def test_what_a_killed_keygen_leaves_is_private(kill: Killer, tmp_path: Path) -> None:
    steps = len(kill.run("keygen", "-o", tmp_path / "key.bin").steps)
    (tmp_path / "key.bin").unlink()
    for step in range(1, steps + 1):
        kill.run("keygen", "-o", tmp_path / "key.bin", step=step)
        (tmp_path / "key.bin").unlink(missing_ok=True)
    left = list(tmp_path.iterdir())
    assert left
    for path in left:
        assert re.fullmatch(r"\.key\.bin\..*\.part", path.name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_engine_is_half_removed(kill: Killer, inputs: Path) -> None:
    """Of several engines the slower ones go again."""
    server = inputs / "service/server"
    build = [argument.replace("in/", f"{inputs}/") for argument in f"{BUILD} auto".split()]
    whole = kill.run(*build)
    assert whole.code == 0, whole.printed
    assert len(list_engines(server)) == 2  # the old one and the fastest
    for step in range(1, len(whole.steps) + 1):
        for name in set(list_engines(server)) - {"old"}:
            shutil.rmtree(server / "engines" / name)
        ended = kill.run(*build, step=step)
        # Which engine is the fastest, and so how many steps it takes to remove the others, varies from run to run.
        assert ended.code is None or (ended.code == 0 and len(ended.steps) < step)
        folders = {path.name for path in (server / "engines").iterdir() if not path.name.startswith(".")}
        assert folders == set(list_engines(server)) >= {"old"}
        assert all(verify_engine(server, name).ok for name in folders)
    again = kill.run(*build)
    assert again.code == 0, again.printed


def test_a_record_is_the_old_one_or_the_new(kill: Killer, inputs: Path) -> None:
    """``lcve verify`` writes proofs into records that are there."""
    server = inputs / "service/server"
    record = server / "engines/old/engine.json"
    write_own_engine(record.parent, dataclasses.replace(read_engine(server, "old"), proof=None))
    before, states = record.read_bytes(), []
    steps = len(kill.run("verify", server).steps)
    for step in range(1, steps + 1):
        record.write_bytes(before)
        assert kill.run("verify", server, step=step).code is None
        states.append(read_engine(server, "old").proof is not None)
        assert states[-1] or record.read_bytes() == before
        assert json.loads(run_ok("verify", server, "--json"))["engines"]["old"]["ok"]  # its MAC is right at any time
    assert states == sorted(states)
    assert states[0] is False
    assert states[-1] is True
