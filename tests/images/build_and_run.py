"""Builds the images and runs them as their roles would: ``make images``.

Needs root, Podman, runc or crun, and iproute2; where BASE names no image to build on, debootstrap besides. Standard
output is one JSON object: sizes, seconds of each phase, predictions. Nothing stays but the base, in a cache folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.images import contents, pip_settings
from tests.images.base import base_archive
from tests.images.network import Cable, cable
from tests.images.podman import HARDENED, LIMITS, CommandError, Podman

REPOSITORY = Path(__file__).parents[2]
TARGETS = ("client", "server", "export")
USER = 10001
SERVER = "lcve-server"
_BASE = "localhost/lcve-base"
_FOR_CLIENTS = ("clip.mp4", "key.bin", "service/client")
_READY_SECONDS, _STOP_SECONDS = 60, 40
_MAKE_VIDEO = """
import numpy as np
from lcve_deploy.video.write import write_video
frames = np.zeros((16, 64, 64, 3), np.uint8)
for i in range(16):
    frames[i, 20:36, 3 * i : 3 * i + 12] = 255
write_video("/data/clip.mp4", frames)
"""
_FIND_MODULES = "import importlib.util as u, sys; print(*(m for m in sys.argv[1:] if u.find_spec(m)))"
_EXPORT = (
    "export --key key.bin --ckpt /examples/moving_digits.pth -o service --num-heads 4 --frames 16 --size 64 --stride 1"
)


@dataclass(kw_only=True)
class Report:
    """What was found, as it grows."""

    seconds: dict[str, float] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    predictions: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, and say that it begins."""
        say(f"{name} ...")
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)

    def expect(self, held: bool, problem: str) -> None:
        """Note a problem where something does not hold, and go on."""
        if not held:
            say(f"  PROBLEM: {problem}")
            self.problems.append(problem)


def say(line: str) -> None:
    """A line for who waits."""
    sys.stderr.write(line + "\n")


def missing() -> list[str]:
    """What this machine lacks."""
    commands = ["podman", "ip", *([] if os.environ.get("BASE") else ["debootstrap"])]
    found = [command for command in commands if not shutil.which(command)]
    if not (shutil.which("runc") or shutil.which("crun")):
        found.append("runc or crun")
    return [*([] if os.geteuid() == 0 else ["root"]), *found]


def take_base(podman: Podman) -> str:
    """The name of the base, which is then in Podman's storage."""
    if named := os.environ.get("BASE"):
        podman("pull", named)
        return named
    podman("import", str(base_archive()), _BASE)
    return _BASE


def build(podman: Podman, target: str, base: str, settings: pip_settings.PipSettings, folder: Path) -> None:
    """Build a target with this machine's pip settings, which are mounted for the build alone."""
    secret = folder / "pip.conf"
    secret.write_text(settings.text)
    how = ("--layers=false", "--isolation=chroot", "--format=docker", *LIMITS[:2], f"--build-arg=BASE={base}")
    mounts = (f"--volume={path}:{path}:ro" for path in settings.local_paths)
    tag = ("--target", target, "--tag", image_of(target))
    podman("build", *how, "--secret", f"id=pip,src={secret}", *mounts, *tag, str(REPOSITORY))


def image_of(target: str) -> str:
    """The name of a target's image."""
    return f"localhost/lcve-{target}"


def look_into(podman: Podman, target: str, base: str, settings: pip_settings.PipSettings, report: Report) -> None:
    """The files of an image, and how it is set up."""
    image = image_of(target)
    with podman.files_of(image) as root, podman.files_of(base) as before:
        report.images[target] = {
            "bytes": int(podman("image", "inspect", "--format", "{{.Size}}", image)),
            "bytes_of_base": contents.size(before),
            "bytes_of_environment": contents.size(root / contents.ENVIRONMENT),
        }
        findings = {
            "key files": contents.key_files(root),
            "writable": contents.writable(root, USER),
            "differs from the base": contents.changed(root, before),
            "traces of the build": contents.traces(root, settings.traces),
        }
    described = podman("image", "inspect", image) + podman("history", "--no-trunc", image)
    findings["traces in its description"] = [word for word in settings.traces if word in described]
    sought = ("-c", _FIND_MODULES, *contents.UNWANTED_MODULES[target])
    findings["modules"] = podman.run(image, *sought, entrypoint="python").split()
    for what, found in findings.items():
        report.expect(not found, f"{target}: {what}: {found[:10]}")
    report.expect(podman.run(image, "-u", entrypoint="id").strip() == str(USER), f"{target}: user is not {USER}")


def export(podman: Podman, work: Path) -> None:
    """As the model owner: a key, a video and an artifact in a folder."""
    mounts = (f"{work}:/data", f"{REPOSITORY}/examples/moving_digits:/examples:ro")
    podman.run(image_of("export"), "-c", _MAKE_VIDEO, entrypoint="python", mounts=mounts)
    podman.run(image_of("export"), "keygen", "-o", "key.bin", mounts=mounts)
    podman.run(image_of("export"), *_EXPORT.split(), mounts=mounts)


def start(podman: Podman, model: Path, network: str) -> None:
    """Verify the model, and start the server's container with its default command: until its own health check passes.

    Raises:
        CommandError: not in time.
    """
    options = (*LIMITS, *HARDENED, f"--network={network}", f"--volume={model}:/models:ro")
    podman.run(image_of("server"), "verify", "/models", mounts=(f"{model}:/models:ro",))
    podman("run", "--detach", "--name", SERVER, *options, image_of("server"))
    end = time.monotonic() + _READY_SECONDS
    while podman.status("healthcheck", "run", SERVER):
        if time.monotonic() > end:
            raise CommandError(f"the server is not healthy; it said:\n{podman('logs', SERVER)}")
        time.sleep(0.5)


def ask(podman: Podman, work: Path, ends: Cable, report: Report) -> None:
    """The same video on one machine, and over the cable by gRPC and HTTP."""
    local = predicted(podman, "export", "service", mounts=(f"{work}:/data:ro",))
    report.predictions["local"] = local[0]
    mounts = tuple(f"{work}/{name}:/data/{name.removeprefix('service/')}:ro" for name in _FOR_CLIENTS)
    for address in (f"grpc://{ends.address}:8001/models", f"http://{ends.address}:8000/models"):
        answer = predicted(podman, "client", address, "--client", "client", mounts=mounts, network=ends.client)
        report.predictions[address] = answer[0]
        report.expect(answer == local, f"{address} answers {answer}, and this machine {local}")


def predicted(podman: Podman, target: str, artifact: str, *options: str, **container: Any) -> list[dict[str, Any]]:
    """What ``lcve run`` predicts for the video."""
    arguments = ("run", artifact, "clip.mp4", "--key", "key.bin", "--json", *options)
    predictions: list[dict[str, Any]] = json.loads(podman.run(image_of(target), *arguments, **container))["predictions"]
    return predictions


def stop(podman: Podman, report: Report) -> None:
    """Stop the server as an orchestrator does, with the signal that its image names."""
    podman("stop", "--time", str(_STOP_SECONDS), SERVER)
    status = podman("inspect", "--format", "{{.State.ExitCode}}", SERVER).strip()
    report.expect(status == "0", f"the server ended with status {status}; it said:\n{podman('logs', SERVER)}")
    report.expect(podman.status("healthcheck", "run", SERVER) != 0, "a stopped server is called healthy")


def check(podman: Podman, folder: Path, report: Report) -> None:
    """All phases."""
    settings = pip_settings.of_this_machine()
    with report.phase("base"):
        base = take_base(podman)
    for target in TARGETS:
        with report.phase(f"build {target}"):
            build(podman, target, base, settings, folder)
    for target in TARGETS:
        with report.phase(f"look into {target}"):
            look_into(podman, target, base, settings, report)
    work = folder / "work"
    work.mkdir()
    os.chown(work, USER, USER)
    with report.phase("export"):
        export(podman, work)
    with cable() as ends:
        with report.phase("start"):
            start(podman, work / "service/server", ends.server)
        with report.phase("ask"):
            ask(podman, work, ends, report)
        with report.phase("stop"):
            stop(podman, report)


def main() -> int:
    """The exit status: 0 where all held, 1 where not, 2 where it cannot run here."""
    if lacks := missing():
        say(f"cannot build and run images here; missing: {', '.join(lacks)}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that it cleans up then, too
    folder, report = Path(tempfile.mkdtemp(prefix="lcve-images-")), Report()
    podman = Podman(folder)
    try:
        check(podman, folder, report)
    except CommandError as error:
        report.expect(False, str(error))
    finally:
        podman.remove_all()
    found = {"images": report.images, "seconds": report.seconds, "predictions": report.predictions}
    sys.stdout.write(json.dumps({**found, "problems": report.problems}, indent=2) + "\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
