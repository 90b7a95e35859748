"""Plants the mutations of one module in a copy of the tree and runs its tests on each.

Every run of tests is a fork of a process that has imported the large libraries already, and nothing
of the package: importing torch takes longer than most of the tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cosmic_ray.plugins
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult

from mutants.modules import Module
from mutants.operators import is_chosen, offer_removal, unseen_spans

__all__ = ["forget", "plant", "session_of"]

_LARGE: Final = ("numpy", "onnx", "onnx_ir", "onnxruntime", "torch", "pytest", "hypothesis", "click", "safetensors")
_ROOT: Final = Path(__file__).parent.parent
_COPIED: Final = (
    "lcve_deploy",
    "tests",
    "docs",
    "examples",
    "fuzz",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
)
_SLACK: Final = (8, 10.0)
_TIMEOUT: Final = "timeout"
_LOG: Final = "last-run.txt"


def plant(module: Module, work: Path, deadline: float) -> Path:
    """Run what is still missing of one module; ends early at the deadline, and goes on with the next call.

    Args:
        module: to mutate.
        work: folder for copies and sessions; kept.
        deadline: of ``time.monotonic``.

    Returns:
        The session, a database of Cosmic Ray.

    Raises:
        RuntimeError: the tests fail without any mutation.
    """
    offer_removal()
    session = session_of(module, work)
    tree = session.with_suffix("")
    _copy(tree)
    with use_db(session) as database, _standing_in(tree):
        for library in _LARGE:
            importlib.import_module(library)
        if not database.num_work_items:
            _fill(database, Path(module.path))
        baseline = _baseline(module.tests)
        limit = baseline * _SLACK[0] + _SLACK[1]
        for item in database.pending_work_items:
            if time.monotonic() > deadline:
                break
            database.set_result(item.job_id, _outcome(item.mutations[0], module.tests, limit))
    return session


def session_of(module: Module, work: Path) -> Path:
    """Where the outcomes of a module, with this content, are kept."""
    digest = hashlib.sha256((_ROOT / module.path).read_bytes()).hexdigest()[:8]
    return work / f"{module.path.removesuffix('.py').replace('/', '-')}-{digest}.sqlite"


def forget(module: Module, work: Path, *, survivors: bool) -> None:
    """Forget all outcomes of a module, or those of survivors, so that they are asked again."""
    session = session_of(module, work)
    if not session.is_file():
        return
    if not survivors:
        session.unlink()
        return
    with contextlib.closing(sqlite3.connect(session)) as database, database:
        database.execute("DELETE FROM work_results WHERE test_outcome = 'SURVIVED'")


def _fill(database: WorkDB, path: Path) -> None:
    """All mutations of a module; what is not chosen counts as skipped."""
    init([path], database, {})
    unseen = unseen_spans(path.read_text())
    out = WorkResult(worker_outcome=WorkerOutcome.SKIPPED)
    left = [item.job_id for item in database.work_items if not is_chosen(item.mutations[0], unseen)]
    database.set_multiple_results(left, out)


def _baseline(tests: Sequence[str]) -> float:
    started = time.monotonic()
    if _run(tests, limit=3600.0) != "survived":
        raise RuntimeError(f"the tests fail without a mutation: {' '.join(tests)}; see {Path.cwd() / _LOG}")
    return time.monotonic() - started


def _outcome(mutation: MutationSpec, tests: Sequence[str], limit: float) -> WorkResult:
    operator = cosmic_ray.plugins.get_operator(mutation.operator_name)()
    with use_mutation(mutation.module_path, operator, mutation.occurrence) as (before, after):
        if after is None:
            return WorkResult(worker_outcome=WorkerOutcome.NO_TEST)
        ended = _run(tests, limit)
    return WorkResult(
        worker_outcome=WorkerOutcome.NORMAL,
        test_outcome=TestOutcome.SURVIVED if ended == "survived" else TestOutcome.KILLED,
        output=ended,
        diff=_changed_line(before, after),
    )


def _changed_line(before: str, after: str) -> str:
    """The first line that differs, as it was and as it is."""
    pairs = zip([*before.splitlines(), ""], [*after.splitlines(), ""], strict=False)
    return next((f"{was.strip()}\n{now.strip()}" for was, now in pairs if was != now), "\n")


def _run(tests: Sequence[str], limit: float) -> str:
    """Run tests in a fork of this process: ``survived``, ``killed`` or ``timeout``."""
    child = os.fork()
    if child == 0:
        _be_pytest(tests)
    ended, status = time.monotonic() + limit, None
    try:
        while status is None and time.monotonic() < ended:
            pid, result = os.waitpid(child, os.WNOHANG)
            status = result if pid else None
            time.sleep(0.01)
    finally:  # also what the tests started and left, and all of it where the run is interrupted
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
    if status is None:
        return _TIMEOUT
    return "killed" if status else "survived"


def _be_pytest(tests: Sequence[str]) -> None:
    """Never returns. Not the usual exit: what the parent has open stays the parent's."""
    import pytest

    status = 70
    try:
        os.setsid()
        output = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = int(pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", *tests]))
        sys.stdout.flush()
    finally:
        os._exit(status)


def _copy(tree: Path) -> None:
    """A copy of the tree's files as they are now; mutations never touch the checkout."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    command = ["git", "ls-files", "-z", "--", *_COPIED]
    listed = subprocess.check_output(command, cwd=_ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_ROOT / name, tree / name)


@contextlib.contextmanager
def _standing_in(tree: Path) -> Iterator[None]:
    """Work in the copy; the package is found there, here and in processes that tests start."""
    before = Path.cwd()
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree))  # pytest imports the package before it adds the root of the tests
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove(str(tree))
