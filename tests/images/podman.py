"""Podman with storage of its own, which leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What Podman would ask for otherwise is more than root may have in a sandbox without CAP_SYS_RESOURCE.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
_MAX_SECONDS = 1800
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")


class CommandError(Exception):
    """A command that failed, with what it said."""


def said_by(*command: str, stdin: str | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=_MAX_SECONDS)
    if done.returncode:
        raise CommandError(
            f"status {done.returncode} of: {' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


class Podman:
    """Podman over a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        runtime = ("--runtime", "runc") if shutil.which("runc") else ()  # crun takes no hybrid cgroups
        places = ("--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/state")
        self.command = ("podman", *places, "--cgroup-manager", "cgroupfs", *runtime)

    def __call__(self, *arguments: str) -> str:
        """Standard output of a subcommand that must succeed."""
        return said_by(*self.command, *arguments)

    def status(self, *arguments: str) -> int:
        """Exit status of a subcommand that may fail."""
        return subprocess.run((*self.command, *arguments), capture_output=True).returncode

    def run(
        self, image: str, *command: str, mounts: tuple[str, ...] = (), network: str = "none", entrypoint: str = ""
    ) -> str:
        """Standard output of a hardened container that must succeed; its entry point is the image's without another."""
        options = (*LIMITS, *HARDENED, f"--network={network}", *(f"--volume={mount}" for mount in mounts))
        instead = (f"--entrypoint={entrypoint}",) if entrypoint else ()
        return self("run", "--rm", *options, *instead, image, *command)

    @contextmanager
    def files_of(self, image: str) -> Iterator[Path]:
        """The file system of an image."""
        yield Path(self("image", "mount", image).strip())
        self("image", "unmount", image)

    def remove_all(self) -> None:
        """Containers, images and mounts, then the folder."""
        self.status("rm", "--all", "--force", "--time", "1")
        self.status("image", "unmount", "--all", "--force")
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted((m for m in mounted if Path(m).is_relative_to(self._folder)), reverse=True):
            subprocess.run(("umount", "--lazy", mount), capture_output=True)
        shutil.rmtree(self._folder)
