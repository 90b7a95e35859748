"""The lower bounds of ``pyproject.toml`` as constraints: ``python tests/floors.py EXTRA...``; ``make test-floors``.

Prints ``name==version`` for every requirement with a lower bound, of the package and of the extras that are named. That
of torch is left out: ``constraints.txt`` pins torch, as other releases can mean gigabytes of CUDA packages.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

_FLOOR = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]*\])?>=([0-9.]+)")

_PINNED = ("torch",)


def floors(project: dict[str, object], extras: Iterable[str]) -> Iterator[str]:
    """Lower bounds as constraints, in the order of the file."""
    optional = project["optional-dependencies"]
    required = project["dependencies"]
    assert isinstance(optional, dict)
    assert isinstance(required, list)
    for requirement in [*required, *(line for extra in extras for line in optional[extra])]:
        found = _FLOOR.match(requirement)
        if found and found[1] not in _PINNED:
            yield f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    sys.stdout.write("\n".join(dict.fromkeys(floors(tomllib.loads(text)["project"], sys.argv[1:]))) + "\n")
