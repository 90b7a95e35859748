"""Which tests belong to which module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["MODULES", "Module", "chosen"]

_ROOT: Final = Path(__file__).parent.parent
_ALWAYS: Final = "house_rules"
_ORDERS: Final = ("geometry", "cipher", "schedule")

_TESTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "cipher": {"cipher/clips": ("cipher",)},
    "orders": {"keys/orders": ("schedule", "cipher")},
    "geometry": {"geometry": _ORDERS},
    "weights": {"cipher/weights": ("scrambling", "graph")},
    "rotation": {"cipher/rotation": ("rotation",)},
    "parity": {"model/parity": ("parity", "artifact")},
    "artifact": {
        "artifact/client_settings": ("client_settings",),
        "artifact/delta": ("rotate",),
        "artifact/digests": ("digests",),
        "artifact/engines": ("engines", "tensorrt"),
        "artifact/keyed": ("keyed",),
        "artifact/manifest": ("artifact",),
        "artifact/matching": ("matching",),
        "artifact/names": ("artifact", "graph"),
        "artifact/probe": ("probe",),
        "artifact/profile": ("engines", "tensorrt"),
        "artifact/record": ("record",),
        "artifact/signature": ("signing",),
        "artifact/tensorfile": ("rotate",),
    },
    "runtime": {
        "runtime/cpu": ("engines",),
        "runtime/backends/onnxruntime": ("artifact", "engines"),
        "runtime/opening": ("artifact", "engines"),
        "runtime/backends/openvino": ("engines",),
        "runtime/probe": ("probe", "artifact", "engines"),
        "runtime/session": ("artifact", "engines"),
        "runtime/backends/tensorrt": ("tensorrt",),
    },
    "exporters/onnx": {"exporters/onnx": ("graph", "export")},
    "exporters/checkpoints": {
        "exporters/checkpoints": ("families", "checkpoints", "folders", "processors", "hub", "fuzz")
    },
}


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module to mutate.

    Args:
        path: from the root of the tree.
        tests: arguments of pytest: the quickest and closest first, as the first failure ends a run.
    """

    path: str
    tests: tuple[str, ...]


def _tests(name: str) -> str:
    """A folder of tests, or a file."""
    return f"tests/{name}" if (_ROOT / "tests" / name).is_dir() else f"tests/test_{name}.py"


def _modules(tests_of: dict[str, tuple[str, ...]]) -> Iterator[Module]:
    for name, tests in tests_of.items():
        place = _ROOT / "lcve_deploy" / name
        paths = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        named = tuple(_tests(test) for test in (*tests, _ALWAYS))
        yield from (Module(path=path.relative_to(_ROOT).as_posix(), tests=named) for path in paths)


MODULES: Final = {part: tuple(_modules(tests_of)) for part, tests_of in _TESTS.items()}
"""By the names that ``--only`` takes."""


def chosen(names: Sequence[str]) -> list[Module]:
    """Modules by the name of their part, or by their own path."""
    return [module for part, modules in MODULES.items() for module in modules if {part, module.path} & set(names)]
