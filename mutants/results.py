"""What came of the mutations: ``mutants/results.json``, a part for each module."""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Final

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from mutants.modules import Module
from mutants.page import RESULTS
from mutants.planting import session_of

__all__ = ["keep", "summary"]

_ACCEPTED: Final = Path(__file__).parent / "accepted.toml"


def keep(module: Module, work: Path) -> dict[str, Any] | None:
    """Put a module's figures into the result file in place of its old ones; returns them, if there are any."""
    session = session_of(module, work)
    if not session.is_file():
        return None
    with use_db(session, WorkDB.Mode.open) as database:
        planted = [(item, result) for item, result in database.completed_work_items if _was_planted(result)]
        missing = len(database.pending_work_items)
    figures = summary(module, planted, missing)
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"modules": {}}
    known["tool"] = f"cosmic-ray {importlib.metadata.version('cosmic-ray')}"
    known["modules"] = dict(sorted({**known["modules"], module.path: figures}.items()))
    RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    return figures


def summary(module: Module, planted: list[tuple[WorkItem, WorkResult]], missing: int) -> dict[str, Any]:
    """Figures of one module, and every survivor with its line as it was and as it is."""
    accepted = _accepted(module)
    outcomes = Counter(str(result.output) for _, result in planted)
    survivors = [_survivor(item, result) for item, result in planted if result.test_outcome is TestOutcome.SURVIVED]
    for survivor in survivors:
        if why := accepted.get(survivor["planted"]):
            survivor["accepted"] = why
    return {
        "tests": list(module.tests),
        "planted": len(planted),
        "killed": outcomes["killed"],
        "timeout": outcomes["timeout"],
        "survived": len(survivors),
        "accepted": sum("accepted" in survivor for survivor in survivors),
        "missing": missing,
        "survivors": sorted(survivors, key=lambda survivor: (survivor["line"], survivor["planted"])),
    }


def _was_planted(result: WorkResult) -> bool:
    return result.worker_outcome is WorkerOutcome.NORMAL


def _survivor(item: WorkItem, result: WorkResult) -> dict[str, Any]:
    (mutation,) = item.mutations
    was, now = (result.diff or "\n").split("\n")
    return {
        "line": mutation.start_pos[0],
        "operator": mutation.operator_name.split("/")[1],
        "was": was,
        "planted": now,
    }


def _accepted(module: Module) -> dict[str, str]:
    """Reasons by the line as planted."""
    entries = tomllib.loads(_ACCEPTED.read_text())["accepted"]
    return {line: entry["why"] for entry in entries if entry["module"] == module.path for line in entry["planted"]}
