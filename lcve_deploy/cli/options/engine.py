"""Options of which engines are built: ``--runtime``, ``--precision`` and ``--budget``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cloup

from lcve_deploy.artifact import EngineKind
from lcve_deploy.cli.options.groups import hands_over
from lcve_deploy.cli.options.types import ABOVE_ZERO
from lcve_deploy.model.precision import Precision

if TYPE_CHECKING:
    from lcve_deploy.verbs.build import BuildOptions
    from lcve_deploy.verbs.fastest import EngineChoice

__all__ = ["AUTO", "EngineRequest", "engine_options"]

AUTO: Final = "auto"


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """Which engines to try.

    Args:
        runtime: one, ``auto`` for all that are installed, or None if none was named.
        precision: one, or ``auto`` for all.
        budget: largest ``|Δlogit|`` to accept; None for the precision's own.
    """

    runtime: str | None
    precision: str
    budget: float | None

    def __post_init__(self) -> None:
        if self.precision == AUTO and self.budget is None:
            raise ValueError("--precision auto needs --budget: the largest |Δlogit| that you accept")

    @property
    def is_given(self) -> bool:
        """Whether an engine is asked for at all."""
        return self.runtime is not None or self.precision != Precision.FP32

    def choice(self, options: BuildOptions) -> EngineChoice:
        """Return what to build, as ``build_fastest`` takes it.

        Raises:
            ValueError: a name for several engines.
        """
        from lcve_deploy.verbs.fastest import EngineChoice

        return EngineChoice(
            kinds=tuple(EngineKind) if self.runtime in (None, AUTO) else (EngineKind(str(self.runtime)),),
            precisions=tuple(Precision) if self.precision == AUTO else (Precision(self.precision),),
            options=options,
        )


engine_options: Final = hands_over(
    "engine",
    EngineRequest,
    cloup.option_group(
        "Engine",
        cloup.option(
            "--runtime",
            type=cloup.Choice([*(kind.value for kind in EngineKind), AUTO]),
            help="What runs the engine; auto tries all that are installed and keeps the fastest.",
        ),
        cloup.option(
            "--precision",
            type=cloup.Choice([*(precision.value for precision in Precision), AUTO]),
            default=Precision.FP32.value,
            show_default=True,
            help="Precision of the matrix products; auto tries all of them within --budget.",
        ),
        cloup.option(
            "--budget", type=ABOVE_ZERO, metavar="FLOAT", help="Largest |Δlogit| of an engine that is accepted."
        ),
    ),
)
