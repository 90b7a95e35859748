"""Which tests belong to which module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mutants.planting import Module

__all__ = ["MODULES", "SMALL"]

_ROOT: Final = Path(__file__).parent.parent
_ORDERS: Final = ("geometry", "cipher", "schedule", "scrambling")
_ARTIFACT: Final = ("artifact", "matching", "rotate", "signing", "engines")
_RUNTIME: Final = ("artifact", "engines", "tensorrt")
_EXPORT: Final = ("graph", "export", "scrambling")
_CHECKPOINTS: Final = ("checkpoints", "fuzz", "export")

_TESTS: Final = {
    "cipher": ("cipher",),
    "schedule": ("schedule", "cipher"),
    "geometry": _ORDERS[:3],
    "scrambling": ("scrambling", "graph"),
    "rotation": ("rotation", "rotate"),
    "parity": ("parity", "export"),
    "artifact": _ARTIFACT,
    "runtime": _RUNTIME,
    "exporters/onnx": _EXPORT,
    "exporters/checkpoints": _CHECKPOINTS,
}
SMALL: Final = ("cipher", "schedule", "geometry", "scrambling", "rotation", "parity")


def _modules(name: str) -> Iterator[Module]:
    place = _ROOT / "lcve_deploy" / name
    paths = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    tests = tuple(f"tests/test_{test}.py" for test in _TESTS[name])
    for path in paths:
        if path.name != "__init__.py":
            yield Module(path=path.relative_to(_ROOT).as_posix(), tests=tests)


MODULES: Final = {name: tuple(_modules(name)) for name in _TESTS}
"""By the names that ``--only`` takes."""
