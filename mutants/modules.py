"""Which tests belong to which module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mutants.planting import Module

__all__ = ["MODULES", "chosen"]

_ROOT: Final = Path(__file__).parent.parent
_ALWAYS: Final = "house_rules"
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


def _modules(name: str) -> Iterator[Module]:
    place = _ROOT / "lcve_deploy" / name
    paths = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    tests = tuple(f"tests/test_{test}.py" for test in (*_TESTS[name], _ALWAYS))
    for path in paths:
        if path.name != "__init__.py":
            yield Module(path=path.relative_to(_ROOT).as_posix(), tests=tests)


MODULES: Final = {name: tuple(_modules(name)) for name in _TESTS}
"""By the names that ``--only`` takes."""


def chosen(names: Sequence[str]) -> list[Module]:
    """Modules by the name of their part, or by their own path."""
    return [module for part, modules in MODULES.items() for module in modules if {part, module.path} & set(names)]
