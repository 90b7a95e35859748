"""Options of how an artifact is opened on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cloup

from lcve_deploy.artifact import PublicKey
from lcve_deploy.cli.options.groups import hands_over
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import POSITIVE, Setting

__all__ = ["PROVIDER_OPTIONS", "SESSION", "SessionOptions", "session_options"]

SESSION: Final = ("engine", "provider", "provider_option", "threads", "signed_by")
"""Names of these options."""

_PROVIDERS: Final = ("cpu", "cuda", "tensorrt", "tensorrt-rtx")

PROVIDER_OPTIONS: Final = (
    cloup.option(
        "--provider",
        type=cloup.Choice(_PROVIDERS),
        default="cpu",
        show_default=True,
        help="Execution provider of ONNX Runtime.",
    ),
    cloup.option("--provider-option", type=Setting(), multiple=True, help="Option of that provider; may be repeated."),
)


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """How ``open_session`` opens an artifact."""

    engine: str | None = None
    provider: str = "cpu"
    provider_options: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    signed_by: PublicKey | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``open_session``."""
        return dict(vars(self))


def _make(
    *,
    engine: str | None,
    provider: str,
    provider_option: tuple[tuple[str, str], ...],
    threads: int | None,
    signed_by: PublicKey | None,
) -> SessionOptions:
    if engine and (provider != "cpu" or provider_option):
        raise ValueError("an engine was built for its provider; --provider is for the graph itself")
    return SessionOptions(
        engine=engine,
        provider=provider,
        provider_options=dict(provider_option),
        threads=threads,
        signed_by=signed_by,
    )


session_options: Final = hands_over(
    "session",
    _make,
    cloup.option_group(
        "Session",
        cloup.option(
            "--engine",
            metavar="NAME",
            help="Engine of lcve build, or fastest.  [default: the graph, in ONNX Runtime]",
        ),
        *PROVIDER_OPTIONS,
        cloup.option("--threads", type=POSITIVE, metavar="N", help="Threads of one inference on a CPU."),
        signed_by_option,
    ),
)
