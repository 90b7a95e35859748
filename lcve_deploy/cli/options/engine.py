"""Options that select the engines to build: ``--runtime``, ``--precision`` and ``--budget``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cloup

from lcve_deploy.artifact import EngineKind
from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.types import ABOVE_ZERO
from lcve_deploy.model.precision import Precision

if TYPE_CHECKING:
    from lcve_deploy.verbs.build import BuildOptions
    from lcve_deploy.verbs.fastest import EngineChoice

__all__ = ["AUTO", "EngineRequest", "engine_options"]

AUTO: Final = "auto"


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """Selection of the engines to build.

    Args:
        runtime: a runtime, ``auto`` for all installed ones, or None if none is requested.
        precision: a precision, or ``auto`` for all.
        budget: maximum ``|Δlogit|`` to accept; None for the budget of the precision.
    """

    runtime: str | None
    precision: str
    budget: float | None

    def __post_init__(self) -> None:
        if self.precision == AUTO and self.budget is None:
            raise ValueError("--precision auto needs --budget, the maximum |Δlogit| to accept")

    @property
    def is_requested(self) -> bool:
        """Whether an engine is requested."""
        return self.runtime is not None or self.precision != Precision.FP32

    def choice(self, options: BuildOptions) -> EngineChoice:
        """Return the engines to build, for ``build_fastest``.

        Raises:
            ValueError: one name is given for several engines.
        """
        from lcve_deploy.verbs.fastest import EngineChoice

        return EngineChoice(
            kinds=tuple(EngineKind) if self.runtime in (None, AUTO) else (EngineKind(str(self.runtime)),),
            precisions=tuple(Precision) if self.precision == AUTO else (Precision(self.precision),),
            options=options,
        )


engine_options: Final = value_from_options(
    "engine",
    EngineRequest,
    cloup.option_group(
        "Engine",
        cloup.option(
            "--runtime",
            type=cloup.Choice([*(kind.value for kind in EngineKind), AUTO]),
            help="Runtime of the engine; auto tries all installed ones and keeps the fastest.",
        ),
        cloup.option(
            "--precision",
            type=cloup.Choice([*(precision.value for precision in Precision), AUTO]),
            default=Precision.FP32.value,
            show_default=True,
            help="Precision of the matrix products; auto tries all of them within --budget.",
        ),
        cloup.option("--budget", type=ABOVE_ZERO, metavar="FLOAT", help="Maximum |Δlogit| of an engine to accept."),
    ),
)
