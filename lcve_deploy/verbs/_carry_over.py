"""Carry over the engines of one model to the same model with another key. No key is needed.

Refitted where the library can put new weights into a plan, otherwise built again as they were; either
way an engine answers the new probe before it is offered.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import EngineKind, EngineRecord, Profile, list_engines
from lcve_deploy.artifact.engine_options import BUDGET, PROVIDER
from lcve_deploy.artifact.engines import engine_folder
from lcve_deploy.artifact.names import PLAN
from lcve_deploy.errors import ArtifactError, BuildError, LcveError, ParityError
from lcve_deploy.exporters.tensorrt import PlanOptions
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.progress import Progress, silent
from lcve_deploy.runtime.opening import read_own_engine
from lcve_deploy.runtime.session import Provider
from lcve_deploy.verbs.build import BuildOptions, build

__all__ = ["CarriedEngine", "carry_over_engines", "options_of"]

_OWN_OPTIONS: Final = (BUDGET, PROVIDER)


@dataclass(frozen=True, kw_only=True)
class CarriedEngine:
    """What became of an engine.

    Args:
        name: of the engine.
        record: of the new one; None if there is none.
        reason: why there is none; empty if there is one.
    """

    name: str
    record: EngineRecord | None
    reason: str = ""


def carry_over_engines(old: Path, new: Path, *, progress: Progress = silent) -> tuple[CarriedEngine, ...]:
    """Carry all engines of a server folder over to another with the same model and other keyed tensors.

    One that cannot be carried over here is left out with its reason; it can be built again later. So is one that this
    machine has not made: neither its files nor what its record says are used.

    Args:
        old: server folder with the engines.
        new: server folder, whole but for its engines; may be staged.
        progress: told of every step.
    """
    return tuple(_carry_over(old, new, name, progress) for name in list_engines(old))


def options_of(record: EngineRecord) -> BuildOptions:
    """The options that an engine was built with.

    Raises:
        ArtifactError: a record with options that no engine has.
    """
    try:
        return _options_of(record)
    except ValueError as error:
        raise ArtifactError(f"the options in the record of the engine {record.name} are invalid: {error}") from None


def _options_of(record: EngineRecord) -> BuildOptions:
    options = dict(record.options)
    plan = record.kind in (EngineKind.TENSORRT, EngineKind.TENSORRT_RTX)
    provider = {name: value for name, value in options.items() if name not in _OWN_OPTIONS}
    return BuildOptions(
        kind=record.kind,
        precision=record.precision,
        name=record.name,
        budget=float(options[BUDGET]) if BUDGET in options else None,
        provider=Provider(options.get(PROVIDER, "cpu")),
        provider_options={} if plan else provider,
        plan=PlanOptions.from_text(options, record.profile or Profile()) if plan else PlanOptions(),
    )


def _carry_over(old: Path, new: Path, name: str, progress: Progress) -> CarriedEngine:
    def named(stage: str, done: int, total: int) -> None:
        progress(f"{name}: {stage}", done, total)

    try:
        record = read_own_engine(old, name)
        return CarriedEngine(name=name, record=_refitted(old, new, record, named) or _rebuilt(new, record, named))
    except LcveError as error:
        return CarriedEngine(name=name, record=None, reason=str(error))


def _refitted(old: Path, new: Path, record: EngineRecord, progress: Progress) -> EngineRecord | None:
    """The engine with new weights; None where only a build can do it."""
    if "refittable" not in record.options or find_gpu() is None:
        return None
    plan = engine_folder(old, record.name) / PLAN
    try:
        return build(new, options_of(record), ranges=record.ranges, refit=plan, progress=progress)
    except (BuildError, ParityError):  # refitting is known to fail, or to lose weights, in some versions
        return None


def _rebuilt(new: Path, record: EngineRecord, progress: Progress) -> EngineRecord:
    return build(new, options_of(record), ranges=record.ranges, progress=progress)
