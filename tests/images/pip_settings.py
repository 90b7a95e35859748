"""Where this machine's pip installs from, for the pip inside a build."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_WHERE_FROM = (
    *("index-url", "extra-index-url", "find-links", "no-index", "constraint"),
    *("cert", "client-cert", "trusted-host", "proxy", "timeout", "default-timeout"),
)


@dataclass(frozen=True, kw_only=True)
class PipSettings:
    """Options by their names; of what environment, site, user and machine say, what counts for pip."""

    options: dict[str, str]

    @property
    def text(self) -> str:
        """As a configuration file."""
        lines = (f"{name} = {' '.join(value.split())}" for name, value in self.options.items())
        return "\n".join(("[global]", *lines, ""))

    @property
    def local_paths(self) -> tuple[Path, ...]:
        """Files and folders of this machine to install with; an index with the folder that its files lie in, too."""
        words = [word for value in self.options.values() for word in value.split()]
        indexes = (Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://"))
        paths = {*indexes, *map(Path, words)}
        return tuple(sorted(path for path in paths if path.is_absolute() and path.exists()))

    @property
    def traces(self) -> tuple[str, ...]:
        """What would show in an image that these options had been used."""
        sources = ("index-url", "extra-index-url", "find-links", "proxy")
        return tuple(word for name in sources for word in self.options.get(name, "").split())


def of_this_machine() -> PipSettings:
    """As ``pip config list`` says; none without a pip."""
    done = subprocess.run((sys.executable, "-m", "pip", "config", "list"), capture_output=True, text=True)
    return parsed(done.stdout)


def parsed(listed: str) -> PipSettings:
    """Options from lines such as ``global.cert='/a'``; those of the environment, ``:env:.cert``, come first in rank."""
    rank = {"global": 0, "install": 1, ":env:": 2}
    found = dict[str, tuple[int, str]]()
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if option in _WHERE_FROM and section in rank and rank[section] >= found.get(option, (0, ""))[0]:
            found[option] = (rank[section], str(ast.literal_eval(value)))
    return PipSettings(options={option: value for option, (_, value) in found.items()})
