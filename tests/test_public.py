"""The public names: one list, in the stub of the package."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import lcve_deploy

STUB = Path(lcve_deploy.__file__).with_suffix(".pyi")
LISTED = re.findall(r"^from (\S+) import (\w+) as (\w+)$", STUB.read_text(), re.MULTILINE)
ALL: set[str] = set(importlib.import_module("lcve_deploy").__all__)


def test_the_stub_lists_every_name_once_and_for_reexport() -> None:
    names = [name for _, name, _ in LISTED]
    assert len(names) == len(set(names)) == STUB.read_text().count("import ") > 50
    assert [(name, alias) for _, name, alias in LISTED if name != alias] == []


def test_all_and_dir_agree_with_the_stub() -> None:
    names = {name for _, name, _ in LISTED}
    assert names == ALL
    assert set(dir(lcve_deploy)) == names | {"__version__"}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, name, _ in LISTED])
def test_every_name_resolves_to_what_its_module_exports(module: str, name: str) -> None:
    defining = importlib.import_module(module)
    assert name in defining.__all__
    assert getattr(lcve_deploy, name) is getattr(defining, name)


def test_no_module_hides_a_name() -> None:
    """Once a module is imported, it takes the place of a name that is spelled the same."""
    modules = {module.name for module in pkgutil.iter_modules(lcve_deploy.__path__)}
    assert modules & ALL == set()


def test_a_star_import_gives_the_public_names() -> None:
    given: dict[str, object] = {}
    exec("from lcve_deploy import *", given)  # noqa: S102
    assert set(given) - {"__builtins__"} == ALL


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'lcve_deploy' has no attribute 'nothing'"):
        _ = lcve_deploy.nothing  # type: ignore[attr-defined]
