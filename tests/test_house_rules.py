"""Rules that no linter knows: values are frozen and keyword-only, and those with arrays are not compared."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import lcve_deploy

ROOT = Path(lcve_deploy.__file__).parent
STATE = {"_QueuedRequest", "_Row", "Statistics", "Duration"}  # of a running server
BY_POSITION = {"Rule", "_Symmetry"}  # rows of tables
ARRAYS = ("NDArray", "Order", "Orders", "Tensors", "Places", "Weights", "Logits", "Clips", "ndarray")


@functools.cache
def dataclasses() -> tuple[tuple[str, ast.ClassDef, dict[str, object]], ...]:
    return tuple(_dataclasses())


def _dataclasses() -> Iterator[tuple[str, ast.ClassDef, dict[str, object]]]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                for decorator in node.decorator_list:
                    if ast.unparse(decorator).startswith("dataclass"):
                        yield f"{path.relative_to(ROOT)}: {node.name}", node, _arguments(decorator)


def _arguments(decorator: ast.expr) -> dict[str, object]:
    assert isinstance(decorator, ast.Call)
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in decorator.keywords}


def test_values_are_frozen_and_keyword_only() -> None:
    found = dataclasses()
    assert len(found) > 100
    assert [name for name, node, given in found if not given.get("frozen") and node.name not in STATE] == []
    assert [name for name, node, given in found if not given.get("kw_only") and node.name not in BY_POSITION] == []


def test_values_with_arrays_are_not_compared() -> None:
    """Arrays have no single answer to ``==``."""
    assert [name for name, node, given in dataclasses() if _has_arrays(node) and given.get("eq") is not False] == []


def _has_arrays(node: ast.ClassDef) -> bool:
    fields = [ast.unparse(field.annotation) for field in node.body if isinstance(field, ast.AnnAssign)]
    return any(word in ARRAYS for field in fields for word in re.findall(r"\w+", field))


def test_docstrings_are_google_style_without_sphinx_roles() -> None:
    """The API reference shows a role as it is written."""
    role = re.compile(r":\w+:`")
    assert [str(path) for path in ROOT.rglob("*.py") if role.search(path.read_text())] == []
