"""Plants mutations and writes results and page: ``python -m mutants [--only PART ...]``; ``make mutants``.

Sessions are kept in ``mutants/work/``, which git ignores. A call that ends early, at its limit or by hand,
leaves them, and the next call goes on. A module that has changed starts over by itself. ``--again`` starts all
over, as after a change of tests; ``--survivors`` asks only what survived. ``--sample`` leaves out the rest of large
modules until a call without it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Final

from mutants.modules import MODULES, Module, chosen
from mutants.page import write_page
from mutants.planting import forget, plant
from mutants.results import keep

_WORK: Final = Path(__file__).parent / "work"


def main() -> int:
    """Plant; returns 1 if mutations are missing at the end."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(MODULES), help=f"paths, or of {', '.join(MODULES)}")
    parser.add_argument("--minutes", type=float, default=480.0, help="wall time after which nothing more is planted")
    parser.add_argument("--jobs", type=int, default=1, help="modules at a time")
    parser.add_argument("--sample", type=int, help="at most so many mutations of each module, drawn with a fixed seed")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--again", action="store_true", help="start over")
    start.add_argument("--survivors", action="store_true", help="ask only what survived; the rest is kept")
    start.add_argument("--page", action="store_true", help="plant nothing; results and page from what there is")
    given = parser.parse_args()
    modules = chosen(given.only)
    if not modules:
        parser.error(f"no module of {' '.join(given.only)}")
    for module in modules:
        if given.again or given.survivors:
            forget(module, _WORK, survivors=given.survivors)
    deadline = time.monotonic() + (0.0 if given.page else 60 * given.minutes)
    missing = [_kept(module) for module in modules] if given.page else _planted(modules, deadline, given)
    write_page()
    return int(any(missing))


def _planted(modules: list[Module], deadline: float, given: argparse.Namespace) -> list[int]:
    """Mutations that are still missing, for each module; its figures are kept and printed when it ends."""
    missing = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
        running = {pool.submit(plant, module, _WORK, deadline, given.sample): module for module in modules}
        for ended in as_completed(running):
            if error := ended.exception():
                print(f"{running[ended].path}: {error}", flush=True)
            missing.append(1 if error else _kept(running[ended]))
    return missing


def _kept(module: Module) -> int:
    figures = keep(module, _WORK)
    if figures is None:
        return 1
    print(
        f"{module.path}: {figures['planted']} planted, {figures['survived']} survived, {figures['missing']} missing",
        flush=True,
    )
    return int(figures["missing"])


if __name__ == "__main__":
    raise SystemExit(main())
