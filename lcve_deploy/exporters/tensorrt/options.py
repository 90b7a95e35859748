"""How an engine is built, and what of it a library has."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from lcve_deploy.artifact import Profile
from lcve_deploy.errors import BuildError
from lcve_deploy.libraries.tensorrt import TENSORRT_RTX, TensorRT

__all__ = ["HardwareCompatibility", "PlanOptions", "set_options"]

_CAPABILITY: Final = re.compile(r"[1-9]\d*\.\d")


class HardwareCompatibility(StrEnum):
    """Which other GPUs an engine must run on than the one that it is built on."""

    NONE = "none"
    AMPERE_PLUS = "ampere-plus"
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"

    @property
    def member(self) -> str:
        """Its name in the library."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How an engine is built; an option that a library lacks is an error, never ignored.

    Args:
        profile: batch sizes.
        timing_cache: file with the times of kernels, read if it is there and written after the build;
            quicker builds, and the same kernels again.
        version_compatible: the engine also runs in later versions of the library; it then carries code
            that those versions execute, so only engines from a trusted builder may be opened.
        hardware: which other GPUs the engine must run on.
        refittable: weights can be replaced by others without a new build.
        stripped: weights are left out, and put back by ``refit_plan`` where the engine is to run.
        tf32: float32 products may be computed with mantissas of 10 bits; off, as they would then not
            be within the budget of fp32, and the folded embedding would lose bits in every precision.
        workspace: most device memory that a layer may use while it runs, bytes; None for all there is.
        compute_capabilities: GPUs to build for, for example ``("8.6", "12.0")``; none for the library's
            choice. TensorRT-RTX alone builds for other GPUs than the one of the machine.

    Raises:
        ValueError: a workspace below one byte, or a compute capability that is not written as ``8.6``.
    """

    profile: Profile = dataclasses.field(default_factory=Profile)
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware: HardwareCompatibility = HardwareCompatibility.NONE
    refittable: bool = False
    stripped: bool = False
    tf32: bool = False
    workspace: int | None = None
    compute_capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workspace is not None and self.workspace < 1:
            raise ValueError(f"expected a workspace of at least 1 byte, received {self.workspace}")
        wrong = [text for text in self.compute_capabilities if not _CAPABILITY.fullmatch(text)]
        if wrong:
            raise ValueError(f"expected compute capabilities such as 8.6, received {', '.join(wrong)}")

    @property
    def needs_weights_of_gpu(self) -> bool:
        """Whether a GPU must lay the weights out, which even a build ahead of time cannot do without one."""
        return self.refittable or self.stripped

    def to_text(self) -> dict[str, str]:
        """What was chosen and shapes the engine, as texts for its record; batch sizes have a field of their own."""
        chosen = {
            "version_compatible": "true" if self.version_compatible else "",
            "hardware": "" if self.hardware is HardwareCompatibility.NONE else str(self.hardware),
            "refittable": "true" if self.refittable else "",
            "stripped": "true" if self.stripped else "",
            "tf32": "true" if self.tf32 else "",
            "workspace": "" if self.workspace is None else str(self.workspace),
            "compute_capabilities": ",".join(self.compute_capabilities),
        }
        return {name: text for name, text in chosen.items() if text}

    @classmethod
    def from_text(cls, texts: Mapping[str, str], profile: Profile) -> Self:
        """The inverse of ``to_text``; other names are passed over."""
        return cls(
            profile=profile,
            version_compatible="version_compatible" in texts,
            hardware=HardwareCompatibility(texts.get("hardware", HardwareCompatibility.NONE)),
            refittable="refittable" in texts,
            stripped="stripped" in texts,
            tf32="tf32" in texts,
            workspace=int(texts["workspace"]) if "workspace" in texts else None,
            compute_capabilities=tuple(filter(None, texts.get("compute_capabilities", "").split(","))),
        )


_FLAGS: Final[Mapping[str, str]] = {
    "version_compatible": "VERSION_COMPATIBLE",
    "refittable": "REFIT",
    "stripped": "STRIP_PLAN",
    "tf32": "TF32",
}
"""Options that are a flag of the builder."""

_NO_EFFECT: Final[Mapping[str, Mapping[str, str]]] = {
    TENSORRT_RTX: {
        "timing_cache": "has no effect, as kernels are chosen when the engine is opened",
        "version_compatible": "has no effect, as its engines run only in the version that built them",
        "hardware": "has no effect, as its engines are for many GPUs in any case; name compute capabilities instead",
    }
}
"""Options that a library takes and ignores, or fails to keep. Source: documentation of TensorRT-RTX 1.7,
"Engine Compatibility" and "Timing Cache Migration", and what version 1.7.1 says when they are set."""


def set_options(config: Any, options: PlanOptions, library: TensorRT) -> None:
    """Put the options into a builder's configuration, but for the timing cache and the profile.

    Raises:
        BuildError: the library lacks some of them; names all.
    """
    problems = _lacking(config, options, library)
    if problems:
        raise BuildError(f"{library} cannot do what was asked: {'; '.join(problems)}")
    for option, name in _FLAGS.items():
        flag = library.member("BuilderFlag", name)
        if flag is not None:  # TF32 is on unless it is cleared
            (config.set_flag if getattr(options, option) else config.clear_flag)(flag)
    if options.hardware is not HardwareCompatibility.NONE:
        config.hardware_compatibility_level = library.member("HardwareCompatibilityLevel", options.hardware.member)
    if options.workspace is not None:
        config.set_memory_pool_limit(library.module.MemoryPoolType.WORKSPACE, options.workspace)
    _set_capabilities(config, options, library)


def _lacking(config: Any, options: PlanOptions, library: TensorRT) -> list[str]:
    """What was asked for and the library does not do, each with the reason."""
    default = PlanOptions(profile=options.profile)
    asked = [f.name for f in dataclasses.fields(options) if getattr(options, f.name) != getattr(default, f.name)]
    ignored = _NO_EFFECT.get(library.kind, {})
    reasons = {name: ignored.get(name) or _unknown(config, name, options, library) for name in asked}
    return [f"{name} {reason}" for name, reason in reasons.items() if reason]


def _unknown(config: Any, name: str, options: PlanOptions, library: TensorRT) -> str:
    """Why an option cannot be set, from what the library has; empty where it can be."""
    match name:
        case "hardware":
            known = library.member("HardwareCompatibilityLevel", options.hardware.member) is not None
        case "timing_cache":
            known = hasattr(config, "create_timing_cache")
        case "compute_capabilities":
            return _unknown_capabilities(options, library)
        case _:
            flag = _FLAGS.get(name)
            known = flag is None or library.member("BuilderFlag", flag) is not None
    return "" if known else "is unknown to it"


def _unknown_capabilities(options: PlanOptions, library: TensorRT) -> str:
    members = getattr(getattr(library.module, "ComputeCapability", None), "__members__", {})
    known = [f"{name[2:-1]}.{name[-1]}" for name in members if name.startswith("SM")]
    if not known:
        return "cannot be named, as it builds for the GPU of the machine alone"
    unknown = [text for text in options.compute_capabilities if text not in known]
    return f"{', '.join(unknown)} is unknown to it; it knows {', '.join(known)}" if unknown else ""


def _set_capabilities(config: Any, options: PlanOptions, library: TensorRT) -> None:
    if not options.compute_capabilities:
        return
    config.num_compute_capabilities = len(options.compute_capabilities)
    for i, text in enumerate(options.compute_capabilities):
        if not config.set_compute_capability(_capability(text, library), i):
            raise BuildError(f"{library} refuses the compute capability {text}: {library.log.quote()}")


def _capability(text: str, library: TensorRT) -> Any | None:
    return library.member("ComputeCapability", f"SM{text.replace('.', '')}")
