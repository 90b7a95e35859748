"""The group ``lcve``, and ``lcve-export``, which is ``lcve export`` by itself."""

from __future__ import annotations

import importlib
import io
import os
import select
import signal
import sys
import warnings
from types import FrameType
from typing import IO, Any, Final, NoReturn

import click

from lcve_deploy.errors import LcveError
from lcve_deploy.process import disable_core_dumps

__all__ = ["export_alone", "lcve"]

_COMMANDS: Final = (
    "keygen",
    "export",
    "sign",
    "build",
    "encrypt",
    "decrypt",
    "run",
    "watch",
    "batch",
    "read",
    "verify",
    "rotate",
    "apply",
    "serve",
    "triton",
    "kubernetes",
    "keyspace",
    "audit",
    "inspect",
)
_EXTRAS: Final = {
    **dict.fromkeys(("torch", "onnx", "onnx_ir"), "export,cpu"),
    **dict.fromkeys(("scipy", "skimage", "jinja2", "av"), "audit"),
    **dict.fromkeys(("ray", "pyarrow"), "batch"),
}
"""The extras that bring a module."""
_PIPE_ENDED: Final = 128 + 13
"""Exit status of what SIGPIPE ends."""


class _Commands(click.Group):
    """Loads a command's file when it is asked for, so that the operator's commands load no key room."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"lcve_deploy.cli.{cmd_name}")
        command: click.Command = module.command
        return command


class _OneLineErrors(_Commands):
    """Errors of this package are shown as one line and a hint, never as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        return guarded(lambda: super(_OneLineErrors, self).invoke(ctx))


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lcve-deploy")
def lcve() -> None:
    """Encrypted action recognition: export a video transformer with a key, encrypt clips, run them."""


def export_alone() -> None:
    """Entry point of ``lcve-export``."""
    from lcve_deploy.cli.export import command

    guarded(lambda: command.main(prog_name="lcve-export"))


def guarded(work: Any) -> Any:
    """Run a command; print what goes wrong on purpose as an error and a hint, and exit with 1."""
    disable_core_dumps()
    signal.signal(signal.SIGTERM, _terminated)
    warnings.showwarning = _show_warning
    try:
        return work()
    except LcveError as error:
        _fail(str(error), error.hint)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        _fail(f"this needs {error.name}, which is not installed", f"pip install 'lcve-deploy[{_EXTRAS[error.name]}]'")
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise SystemExit(_PIPE_ENDED) from None
        _fail(f"{error.strerror}: {error.filename}" if error.filename else str(error), "")


def _fail(message: str, hint: str) -> NoReturn:
    from lcve_deploy.cli.show import printable

    click.secho("error: ", fg="red", nl=False, err=True)
    click.echo("\n".join(map(printable, message.splitlines())), err=True)
    if hint:
        click.echo(f"hint: {printable(hint)}", err=True)
    raise SystemExit(1)


def _nobody_reads() -> bool:
    """Whether standard output or error is a pipe that was closed, as by ``head``; what is left for it is dropped."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
    for stream in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(closed)


def _is_closed(stream: IO[str]) -> bool:
    """Whether nobody is at the other end of a pipe; asked of the system, as a buffer may be empty."""
    watch = select.poll()
    try:
        watch.register(stream.fileno(), 0)
    except io.UnsupportedOperation:  # no file
        return False
    return any(event & select.POLLERR for _, event in watch.poll(0))


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind, so that what was half-written goes away."""
    raise SystemExit(128 + number)


def _show_warning(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
    from lcve_deploy.cli.show import printable

    if category.__module__.startswith("lcve_deploy"):
        click.echo(f"warning: {printable(str(message))}", err=True)
