"""The page of the mutation tests is made from their results; what is planted is still there."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mutants.modules import MODULES, chosen
from mutants.page import PAGE, RESULTS, page

ROOT = Path(__file__).parent.parent
PATHS = {module.path for modules in MODULES.values() for module in modules}


def test_the_page_is_made_from_the_results() -> None:
    assert PAGE.read_text() == page(json.loads(RESULTS.read_text()))


def test_every_module_and_every_test_is_there() -> None:
    for modules in MODULES.values():
        assert modules
        for module in modules:
            assert (ROOT / module.path).is_file()
            for place, _, name in (test.partition("::") for test in module.tests):
                assert (ROOT / place).exists()
                assert not name or f"def {name}(" in (ROOT / place).read_text()


@pytest.mark.parametrize("part", ["artifact", "runtime", "runtime/backends", "exporters/checkpoints"])
def test_no_module_of_a_folder_is_left_out(part: str) -> None:
    """A new module gets a row in ``mutants/modules.py``."""
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "lcve_deploy" / part).glob("*.py")}
    assert {path for path in there - PATHS if not path.endswith("__init__.py")} == set()


def test_a_part_or_a_path_chooses_modules() -> None:
    assert [module.path for module in chosen(["parity"])] == ["lcve_deploy/model/parity.py"]
    assert [module.path for module in chosen(["lcve_deploy/artifact/probe.py", "nothing"])] == [
        "lcve_deploy/artifact/probe.py"
    ]
    assert {module.path for module in chosen(["artifact", "parity"])} > {"lcve_deploy/artifact/probe.py"}


def test_what_is_accepted_belongs_to_a_module_and_has_a_reason() -> None:
    for entry in tomllib.loads((ROOT / "mutants/accepted.toml").read_text())["accepted"]:
        assert entry["module"] in PATHS
        assert len(entry["why"]) > 8
        assert all(line == line.strip() for line in entry["planted"])


def test_scores_leave_out_what_is_accepted() -> None:
    survivor = {"line": 3, "operator": "NumberReplacer", "was": "a = 1", "planted": "a = 2"}
    figures = {"planted": 11, "timeout": 1, "survived": 3, "accepted": 1, "missing": 2}
    survivors = [survivor, survivor | {"accepted": "as good"}, survivor | {"planted": ""}]
    made = page({"tool": "a tool", "modules": {"x.py": figures | {"survivors": survivors}}})
    assert "| `x.py` | 13 | 11 | 8 | 1 | 3 | 1 | 80.0 % |" in made
    assert "- line 3, NumberReplacer: `a = 1` → `a = 2`" in made
    assert made.count("`a = 2`") == 1
    assert "`a = 1` → `(removed)`" in made
