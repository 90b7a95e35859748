"""A hundred cameras, each with its own key, on one server:

    python -m benchmarks.fleet.cameras --cameras 100 --seconds 600

exports the trained model of ``examples/moving_digits``, enrolls a key for each camera, and starts ``lcve serve`` and
``lcve watch`` for each camera, all in processes of their own. Every camera plays the same film of held-out clips, and
every answer is compared with the one of the plain model in PyTorch. Meanwhile one key is revoked, and one is renewed.
Figures go to ``benchmarks/results/fleet_cameras.json``. The exit status is 1 if an answer is wrong or lost. Linux only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.common.files import EXAMPLE, RESULTS
from benchmarks.common.processes import LCVE
from benchmarks.watching import resident, spread
from examples.moving_digits.data import ACTIONS, held_out_clips
from lcve_deploy.client import Client, softmax
from lcve_deploy.clips import EncryptedClip, PlainClip
from lcve_deploy.errors import UnavailableError, UnknownKeyError
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.remote import RemoteOptions, RemoteSession
from lcve_deploy.runtime.cpu import cpu_name
from lcve_deploy.verbs.watch import Watch
from lcve_deploy.video import write_video
from lcve_deploy.video.live import LiveSource

__all__ = ["Fleet", "main", "observe"]

RESULT: Final = RESULTS / "fleet_cameras.json"
CHECKPOINT: Final = EXAMPLE / "moving_digits.pth"
TOLERANCE: Final = 1e-3
"""Of the probability of the first class."""
_FRAMES: Final = 16
_CLIPS: Final = 8
_FRAMES_PER_SECOND: Final = 4
_STARTING: Final = 4
"""Cameras that start at a time."""
_PATIENCE: Final = 300.0
_MODEL: Final = "actions"
_REVOKED, _RENEWED = 0, 1

Answers = Sequence[tuple[str, float]]


def lcve(*arguments: object) -> None:
    """Run a command line, with its output on standard error."""
    subprocess.run([*LCVE, *map(str, arguments)], check=True, stdout=sys.stderr)


@dataclass(eq=False)
class Camera:
    """An ``lcve watch`` in a process of its own, and its results so far.

    Args:
        process: the command.
        answers: the plain model's class and probability for each clip of the film.
    """

    process: subprocess.Popen[str]
    answers: Answers
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    after_refusal: int = 0
    lost: list[str] = field(default_factory=list)
    seen: int = 0

    def __post_init__(self) -> None:
        self.is_done = False
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line = json.loads(text)
            if not self.is_done and "window" in line:
                self._count(line)

    def _count(self, line: Mapping[str, Any]) -> None:
        number, outcome = line["window"], line["outcome"]
        if number != self.seen:
            self.lost.append(f"window {self.seen} has no result, {number} came next")
        self.seen = number + 1
        if outcome == "failed":
            self.refused += 1
            self.lost.append(f"window {number}: {line.get('error')}")
        elif outcome != "answered":
            self.lost.append(f"window {number} was {outcome}")
        else:
            self._compare(number, line["predictions"][0])

    def _compare(self, number: int, first: Mapping[str, Any]) -> None:
        name, probability = self.answers[number % len(self.answers)]
        self.after_refusal += bool(self.refused)
        if first["name"] == name and abs(first["probability"] - probability) <= TOLERANCE:
            self.right += 1
        else:
            self.wrong.append(f"window {number}: {first} instead of {name}, {probability}")

    @property
    def has_answer(self) -> bool:
        """Whether there is a first result.

        Raises:
            RuntimeError: the process has ended without one.
        """
        if not self.seen and self.process.poll() is not None:
            raise RuntimeError(f"lcve watch has ended with status {self.process.returncode}, before the first window")
        return self.seen > 0

    def stop(self) -> None:
        """Count no more results, and end the process."""
        self.is_done = True
        self.process.terminate()


class Fleet:
    """The owner's, the operator's and the cameras' folders, and what runs.

    Args:
        work: empty folder.
        cameras: number of cameras, at least 3.
        frames_per_second: of the film that they play; a window is of 16 frames.
    """

    def __init__(self, work: Path, cameras: int, frames_per_second: int) -> None:
        self._work, self._names = work, [f"camera-{number:03}" for number in range(cameras)]
        self._frames_per_second = frames_per_second
        self._stack = ExitStack()
        self.enroll_seconds = 0.0

    def prepare(self) -> None:
        """Make the film, the model and a key for each camera, and give the key folders to the operator."""
        clips, _ = held_out_clips(_CLIPS)
        write_video(self._work / "film.mp4", np.concatenate(list(clips)), frames_per_second=self._frames_per_second)
        (self._work / "actions.txt").write_text("\n".join(ACTIONS) + "\n")
        (self._work / "names.txt").write_text("\n".join(self._names) + "\n")
        lcve("keygen", "-o", self._work / "master.bin")
        lcve(
            *("export", "--key", self._work / "master.bin", "--ckpt", CHECKPOINT, "-o", self._work / "service"),
            *("--num-heads", 4, "--frames", _FRAMES, "--size", 64, "--stride", 1),
            *("--labels", self._work / "actions.txt"),
        )
        started = time.monotonic()
        self._enroll("enrolled", "--names", self._work / "names.txt")
        self.enroll_seconds = time.monotonic() - started
        lcve("apply", self._server, *(self._work / "enrolled" / name / "server" for name in self._names))

    @property
    def _server(self) -> Path:
        return self._work / "service/server"

    def _enroll(self, output: str, *options: object) -> None:
        owner = (self._work / "service", "--key", self._work / "master.bin")
        lcve("enroll", *owner, *options, "-o", self._work / output)

    def plain_answers(self) -> Answers:
        """Return the plain model's first class and probability for each window of the film."""
        client = self._client(self._names[0])
        recorder = _Recorder(client)
        with Watch(LiveSource(str(self._work / "film.mp4")), client, recorder) as watch:
            for _ in watch.results(timeout=1):
                pass
        options = CheckpointOptions(heads=4, frames=_FRAMES, size=64)
        logits = BuiltinReference(load_checkpoint(CHECKPOINT, options).model).logits(np.concatenate(recorder.windows))
        shares = softmax(logits)
        return [(ACTIONS[int(share.argmax())], float(share.max())) for share in shares]

    def _client(self, name: str, client: Path | None = None) -> Client:
        folder = self._work / "enrolled" / name
        return Client.open(client or folder / "client", SecurityKey.read(folder / "key.bin"))

    @contextmanager
    def served(self) -> Iterator[tuple[str, int]]:
        """Run a server; yield the address of the model and the number of the process."""
        command = [*LCVE, "serve", f"{_MODEL}={self._server}", "--json", "--log-level", "error", "--poll", "1"]
        command += ["--http-port", "-1", "--grpc-port", "0", "--metrics-port", "-1", "--max-keys", "128"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield f"grpc://127.0.0.1:{json.loads(process.stdout.readline())['grpc']}/{_MODEL}", process.pid
            finally:
                process.terminate()

    def start(self, address: str, name: str, answers: Answers, *, client: Path | None = None) -> Camera:
        """Start a camera."""
        folder = self._work / "enrolled" / name
        command = [*LCVE, "watch", str(self._work / "film.mp4"), "--loop", "--realtime", "--hop", str(_FRAMES)]
        command += ["--server", address, "--key", str(folder / "key.bin"), "--client", str(client or folder / "client")]
        command += ["--json", "--top", "1"]
        quiet = subprocess.DEVNULL
        return Camera(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True), answers)

    def start_all(self, address: str, answers: Answers) -> list[Camera]:
        """Start all cameras, a few at a time, and wait until each has an answer."""
        cameras: list[Camera] = []
        for first in range(0, len(self._names), _STARTING):
            some = [self.start(address, name, answers) for name in self._names[first : first + _STARTING]]
            wait_until(lambda some=some: all(camera.has_answer for camera in some))  # type: ignore[misc]
            cameras += some
        return cameras

    def revoke(self) -> None:
        """Remove the key of the first camera, as an operator does."""
        shutil.rmtree(self._server / "keys" / self._names[_REVOKED])

    def renew(self, address: str, old: Camera) -> Camera:
        """Give the second camera a new salt: the new key is used before the old one is removed."""
        name = self._names[_RENEWED]
        self._enroll("renewed", "--name", name, "--new-salt")
        lcve("apply", self._server, self._work / "renewed/server", "--name", f"{name}.2")
        client = self._client(name, self._work / "renewed/client")
        wait_until(lambda: _is_answered(address, client))
        new = self.start(address, name, old.answers, client=self._work / "renewed/client")
        wait_until(lambda: new.has_answer)
        seen = old.seen
        wait_until(lambda: old.seen > seen)  # its next window is seconds away, so none is waiting
        old.stop()
        shutil.rmtree(self._server / "keys" / name)
        return new


class _Recorder:
    """Stands in for a model: keeps the plain windows, and answers nothing of use."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.windows: list[npt.NDArray[np.uint8]] = []

    def run(self, clip: EncryptedClip) -> npt.NDArray[np.float32]:
        """Keep a window."""
        self.windows.append(self._client.decrypt(clip).values)
        return np.zeros((1, len(self._client.settings.classes)), np.float32)


def _is_answered(address: str, client: Client) -> bool:
    """Whether a server answers clips of a key."""
    clip = PlainClip(values=np.zeros((1, *client.settings.binding.geometry.clip_shape), np.uint8))
    with RemoteSession(address, client.settings.binding, RemoteOptions(retries=0)) as session:
        try:
            session.run(client.encrypt(clip))
        except (UnknownKeyError, UnavailableError):  # not found yet, or being checked
            return False
    return True


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something that processes do.

    Raises:
        TimeoutError: it has not happened for minutes.
    """
    end = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("a camera has had no answer for minutes")
        time.sleep(0.1)


def observe(work: Path, *, cameras: int, seconds: float, frames_per_second: int = _FRAMES_PER_SECOND) -> dict[str, Any]:
    """Run a fleet, and return what was seen; see the docstring of this module."""
    fleet = Fleet(work, cameras, frames_per_second)
    fleet.prepare()
    answers = fleet.plain_answers()
    memory: list[tuple[float, float]] = []
    with fleet.served() as (address, process):
        running = fleet.start_all(address, answers)
        retired: list[Camera] = []
        try:
            started, pending = time.monotonic(), [(seconds / 3, "revoke"), (seconds / 2, "renew")]
            while (now := time.monotonic() - started) < seconds:
                memory.append((now, resident(process)))
                if pending and now >= pending[0][0]:
                    if pending.pop(0)[1] == "revoke":
                        fleet.revoke()
                    else:
                        retired.append(running[_RENEWED])
                        running[_RENEWED] = fleet.renew(address, retired[0])
                time.sleep(0.5)
        finally:
            for camera in (*running, *retired):
                camera.stop()
            for camera in (*running, *retired):
                camera.process.wait()
    revoked, *others = [running[_REVOKED], *running[_RENEWED:], *retired]
    return {
        "cameras": cameras,
        "seconds": seconds,
        "enroll_seconds": fleet.enroll_seconds,
        "right": revoked.right + sum(camera.right for camera in others),
        "wrong": [problem for camera in (revoked, *others) for problem in camera.wrong],
        "lost": [problem for camera in others for problem in camera.lost],
        "revoked": {"answered": revoked.right, "refused": revoked.refused, "answered_later": revoked.after_refusal},
        "renewed": {"old": retired[0].right, "new": running[_RENEWED].right},
        "fewest_answers": min(camera.right for camera in running[_RENEWED + 1 :]),
        "memory": spread(memory, seconds),
    }


def problems(seen: Mapping[str, Any]) -> list[str]:
    """Explain what is wrong with what was seen."""
    found = [*seen["wrong"], *seen["lost"]]
    if not seen["revoked"]["refused"] or seen["revoked"]["answered_later"]:
        found.append(f"the revoked key was not refused: {seen['revoked']}")
    if not all(seen["renewed"].values()) or not seen["fewest_answers"]:
        found.append(f"a camera had no answer: {seen['renewed']}, {seen['fewest_answers']}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = observe(Path(folder), cameras=options.cameras, seconds=options.seconds)
    seen |= {"cpu": cpu_name(), "date": date.today().isoformat()}
    RESULT.write_text(json.dumps(seen, indent=2) + "\n")
    print(json.dumps(seen, indent=2))
    if found := problems(seen):
        sys.exit("\n".join(found[:20]))


if __name__ == "__main__":
    main()
