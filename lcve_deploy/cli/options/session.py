"""Options of a session on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.artifact import PublicKey
from lcve_deploy.artifact.engine_options import MAX_DEVICE
from lcve_deploy.cli.options.common import engine_secret_option
from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import POSITIVE, Setting

if TYPE_CHECKING:
    from lcve_deploy.runtime import SessionOptions

__all__ = ["DEVICE_OPTION", "PROVIDER_OPTIONS", "SESSION", "SessionRequest", "session_options"]

SESSION: Final = ("engine", "provider", "provider_option", "device", "threads", "signed_by", "engine_secret")
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
    cloup.option("--provider-option", type=Setting(), multiple=True, help="Option of the provider; may be repeated."),
)

DEVICE_OPTION: Final = cloup.option(
    "--device",
    type=click.IntRange(min=0, max=MAX_DEVICE),
    metavar="N",
    help="Number of the GPU, for a provider or an engine that runs on one.  [default: the first]",
)


@dataclass(frozen=True, kw_only=True)
class SessionRequest:
    """Options of a session; see ``lcve_deploy.runtime.SessionOptions``."""

    engine: str | None
    provider: str
    provider_option: tuple[tuple[str, str], ...]
    device: int | None
    threads: int | None
    signed_by: PublicKey | None
    engine_secret: Path | None

    def __post_init__(self) -> None:
        if self.engine and (self.provider != "cpu" or self.provider_option):
            raise ValueError("--provider is for the graph, not for an engine, which was built for one provider")
        if self.device is not None and not self.engine and self.provider == "cpu":
            raise ValueError("--device is for a provider or an engine that runs on a GPU")

    def options(self) -> SessionOptions:
        """Return the options; the client of a server never imports the runtime."""
        from lcve_deploy.runtime import Provider, SessionOptions

        return SessionOptions(
            engine=self.engine,
            provider=Provider(self.provider),
            provider_options=dict(self.provider_option),
            device=self.device,
            threads=self.threads,
            signed_by=self.signed_by,
            engine_secret=self.engine_secret and self.engine_secret.absolute(),  # workers may run in another folder
        )


session_options: Final = value_from_options(
    "session",
    SessionRequest,
    cloup.option_group(
        "Session",
        cloup.option(
            "--engine",
            metavar="NAME",
            help="Engine built by lcve build, or fastest.  [default: the graph, in ONNX Runtime]",
        ),
        *PROVIDER_OPTIONS,
        DEVICE_OPTION,
        cloup.option("--threads", type=POSITIVE, metavar="N", help="Threads per inference on a CPU."),
        signed_by_option,
        engine_secret_option,
    ),
)
