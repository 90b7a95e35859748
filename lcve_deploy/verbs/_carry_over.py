"""Carry engines over to the same model under another key. Needs no key.

An engine is refitted if its library can put new weights into a plan; otherwise it is rebuilt with the same options.
Either way it must pass the new probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import EngineKind, EngineRecord, Profile, list_engines
from lcve_deploy.artifact.engine_options import BUDGET, PROVIDER
from lcve_deploy.errors import ArtifactError, BuildError, LcveError, ParityError
from lcve_deploy.exporters.tensorrt import PlanOptions
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.progress import Progress, silent
from lcve_deploy.runtime.opening import read_own_engine
from lcve_deploy.runtime.session import Provider
from lcve_deploy.verbs.build import BuildOptions, RefitPlan, build

__all__ = ["CarriedEngine", "carry_over_engines", "options_of"]

_OWN_OPTIONS: Final = (BUDGET, PROVIDER)


@dataclass(frozen=True, kw_only=True)
class CarriedEngine:
    """Outcome for one engine when the key of its artifact is rotated.

    Args:
        name: engine name.
        record: record of the new engine; None if it could not be refitted or rebuilt on this machine.
        reason: why there is no new engine; empty if there is one.
    """

    name: str
    record: EngineRecord | None
    reason: str = ""


def carry_over_engines(old: Path, new: Path, *, progress: Progress = silent) -> tuple[CarriedEngine, ...]:
    """Refit or rebuild all engines of a server folder for another one with the same model and other keyed tensors.

    An engine that fails is left out and reported with a reason; it can be built later. So is an engine that this
    machine has not made: neither its files nor what its record says are used.

    Args:
        old: server folder with the engines.
        new: server folder, complete except for its engines; may be staged.
        progress: receives every step.
    """
    return tuple(_carry_over(old, new, name, progress) for name in list_engines(old))


def options_of(record: EngineRecord) -> BuildOptions:
    """Return the options that an engine was built with.

    Raises:
        ArtifactError: the record has invalid options.
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
    def prefixed(stage: str, done: int, total: int) -> None:
        progress(f"{name}: {stage}", done, total)

    try:
        record = read_own_engine(old, name)
        return CarriedEngine(name=name, record=_refit(old, new, record, prefixed) or _rebuild(new, record, prefixed))
    except LcveError as error:
        return CarriedEngine(name=name, record=None, reason=str(error))


def _refit(old: Path, new: Path, record: EngineRecord, progress: Progress) -> EngineRecord | None:
    """Refit a plan with the new weights; return None if the engine must be rebuilt instead."""
    if "refittable" not in record.options or find_gpu() is None:
        return None
    try:
        return build(new, options_of(record), ranges=record.ranges, refit=RefitPlan.of(old, record), progress=progress)
    except (BuildError, ParityError):  # in some TensorRT versions a refit fails or loses weights
        return None


def _rebuild(new: Path, record: EngineRecord, progress: Progress) -> EngineRecord:
    return build(new, options_of(record), ranges=record.ranges, progress=progress)
