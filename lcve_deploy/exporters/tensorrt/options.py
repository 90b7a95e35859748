"""Options for building an engine, and which of them each library supports."""

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

DEFAULT_MAX_KEYS: Final = 64
_CAPABILITY: Final = re.compile(r"[1-9]\d*\.\d")


class HardwareCompatibility(StrEnum):
    """GPUs that an engine must run on, other than the one that it is built on."""

    NONE = "none"
    AMPERE_PLUS = "ampere-plus"
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"

    @property
    def member(self) -> str:
        """Name of the member in the library's enumeration."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Options for building an engine. An option that the library does not support is an error, never ignored.

    Args:
        profile: batch sizes.
        max_keys: largest number of keys that a bank of the engine may hold.
        timing_cache: file with kernel timings, read if it exists and written after the build. It makes builds faster
            and repeatable.
        version_compatible: build an engine that also runs in later versions of the library. It contains code that
            those versions execute, so open only engines from a trusted builder.
        hardware: other GPUs that the engine must run on.
        stripped: leave weights out; the machine that runs the engine adds them when it opens it.
        tf32: allow float32 products with a mantissa of 10 bits. Off by default: such products exceed the budget of
            fp32, and the folded embedding would lose bits in every precision.
        cuda_graphs: launch all kernels of a batch at once. Only TensorRT-RTX has a switch for it.
        workspace: maximum device memory that a layer may use while it runs, bytes; None for no limit.
        compute_capabilities: GPUs to build for, such as ``("8.6", "12.0")``; empty for the library's choice. Only
            TensorRT-RTX can build for GPUs other than the one of the machine.

    Raises:
        ValueError: the number of keys or the workspace is below 1, or a compute capability is not written like ``8.6``.
    """

    profile: Profile = dataclasses.field(default_factory=Profile)
    max_keys: int = DEFAULT_MAX_KEYS
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware: HardwareCompatibility = HardwareCompatibility.NONE
    stripped: bool = False
    tf32: bool = False
    cuda_graphs: bool = False
    workspace: int | None = None
    compute_capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_keys < 1:
            raise ValueError(f"expected at least 1 key, received {self.max_keys}")
        if self.workspace is not None and self.workspace < 1:
            raise ValueError(f"expected a workspace of at least 1 byte, received {self.workspace}")
        wrong = [text for text in self.compute_capabilities if not _CAPABILITY.fullmatch(text)]
        if wrong:
            raise ValueError(f"expected compute capabilities such as 8.6, received {', '.join(wrong)}")

    @property
    def needs_gpu(self) -> bool:
        """Whether the build needs a GPU even ahead of time, as a stripped plan does."""
        return self.stripped

    def to_text(self) -> dict[str, str]:
        """Return the options that are not at their default and affect the engine, as text for its record.

        The batch sizes are not included, because the record has a field for them.
        """
        chosen = {
            "max_keys": "" if self.max_keys == DEFAULT_MAX_KEYS else str(self.max_keys),
            "version_compatible": "true" if self.version_compatible else "",
            "hardware": "" if self.hardware is HardwareCompatibility.NONE else str(self.hardware),
            "stripped": "true" if self.stripped else "",
            "tf32": "true" if self.tf32 else "",
            "cuda_graphs": "true" if self.cuda_graphs else "",
            "workspace": "" if self.workspace is None else str(self.workspace),
            "compute_capabilities": ",".join(self.compute_capabilities),
        }
        return {name: text for name, text in chosen.items() if text}

    @classmethod
    def from_text(cls, texts: Mapping[str, str], profile: Profile) -> Self:
        """Create options from the result of ``to_text`` and the batch sizes; other names are ignored."""
        return cls(
            profile=profile,
            max_keys=int(texts.get("max_keys", DEFAULT_MAX_KEYS)),
            version_compatible="version_compatible" in texts,
            hardware=HardwareCompatibility(texts.get("hardware", HardwareCompatibility.NONE)),
            stripped="stripped" in texts,
            tf32="tf32" in texts,
            cuda_graphs="cuda_graphs" in texts,
            workspace=int(texts["workspace"]) if "workspace" in texts else None,
            compute_capabilities=tuple(filter(None, texts.get("compute_capabilities", "").split(","))),
        )


_FLAGS: Final[Mapping[str, str]] = {
    "version_compatible": "VERSION_COMPATIBLE",
    "stripped": "STRIP_PLAN",
    "tf32": "TF32",
}
"""Flags of the builder by option."""

_NO_EFFECT: Final[Mapping[str, Mapping[str, str]]] = {
    TENSORRT_RTX: {
        "timing_cache": "has no effect, because kernels are chosen when the engine is opened",
        "version_compatible": "has no effect, because its engines run only in the version that built them",
        "hardware": "has no effect, because its engines run on many GPUs anyway; pass compute capabilities instead",
    }
}
"""Options that a library accepts and ignores, or does not honour. Source: documentation of TensorRT-RTX 1.7,
"Engine Compatibility" and "Timing Cache Migration", and the messages of version 1.7.1 when they are set."""


def set_options(config: Any, options: PlanOptions, library: TensorRT) -> None:
    """Set the options in a builder's configuration, except for the timing cache and the profile.

    Raises:
        BuildError: the library does not support an option, or refuses a compute capability. The message lists all
            unsupported options.
    """
    problems = _problems(config, options, library)
    if problems:
        raise BuildError(f"{library} does not support these options: {'; '.join(problems)}")
    for option, name in _FLAGS.items():
        flag = library.member("BuilderFlag", name)
        if flag is not None:  # TF32 is on unless it is cleared
            (config.set_flag if getattr(options, option) else config.clear_flag)(flag)
    if options.hardware is not HardwareCompatibility.NONE:
        config.hardware_compatibility_level = library.member("HardwareCompatibilityLevel", options.hardware.member)
    if options.workspace is not None:
        config.set_memory_pool_limit(library.module.MemoryPoolType.WORKSPACE, options.workspace)
    _set_capabilities(config, options, library)


def _problems(config: Any, options: PlanOptions, library: TensorRT) -> list[str]:
    """Return the options that are not at their default and not supported, each with the reason."""
    default = PlanOptions(profile=options.profile)
    changed = [f.name for f in dataclasses.fields(options) if getattr(options, f.name) != getattr(default, f.name)]
    ignored = _NO_EFFECT.get(library.kind, {})
    reasons = {name: ignored.get(name) or _unknown(config, name, options, library) for name in changed}
    return [f"{name} {reason}" for name, reason in reasons.items() if reason]


def _unknown(config: Any, name: str, options: PlanOptions, library: TensorRT) -> str:
    """Return why the library cannot set an option; empty if it can."""
    match name:
        case "hardware":
            known = library.member("HardwareCompatibilityLevel", options.hardware.member) is not None
        case "cuda_graphs":
            known = library.member("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE") is not None
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
        return "cannot be set, because it builds only for the GPU of the machine"
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
