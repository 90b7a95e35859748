"""Tasks in processes of their own: modules of this package, and ``lcve``."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.common.files import ROOT

LCVE = (sys.executable, "-c", "from lcve_deploy.cli import lcve; lcve()")


def say(text: str) -> None:
    """Report progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def module(name: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of this package; start it with the working directory ``ROOT``."""
    return [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]


def figures_of(name: str, *arguments: object) -> dict[str, Any]:
    """Run a module in a process of its own; return the JSON on the last line that it prints."""
    done = subprocess.run(module(name, *arguments), check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
