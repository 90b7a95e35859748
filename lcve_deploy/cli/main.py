"""The command group ``lcve``, and ``lcve-export``, which runs ``lcve export`` directly."""

from __future__ import annotations

import importlib
import io
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import IO, Any, Final, NoReturn, TypeVar

import click
import cloup
from cloup.formatting import HelpSection, ensure_is_cloup_formatter

from lcve_deploy.cli.command import HELP_NAMES, version_option
from lcve_deploy.cli.verbosity import is_verbose
from lcve_deploy.errors import LcveError
from lcve_deploy.process import disable_core_dumps

__all__ = ["SECTIONS", "export_alone", "lcve"]

SECTIONS: Final = {
    "Model owner (has the key and the checkpoint)": {
        "keygen": "Create or derive a key, or create a key pair for signing",
        "export": "Export a checkpoint as an encrypted service and check parity",
        "enroll": "Make keys for cameras and clients",
        "rotate": "Make a key folder with a new salt, and optionally a new key",
        "sign": "Sign the model and the keys of an artifact",
        "convert": "Convert an artifact of an older version",
        "audit": "Run the known attacks and report what they recover",
    },
    "Edge client (has the key)": {
        "encrypt": "Encrypt a video for the server of an artifact",
        "decrypt": "Decrypt a clip to an array, a video or a picture",
        "watch": "Classify a camera or video stream, window by window",
        "web": "Serve a page that encrypts clips in the browser",
        "batch": "Classify or encrypt many videos",
        "read": "Turn the operator's logits into class names",
    },
    "Cloud operator (needs no key)": {
        "build": "Build a faster engine for this machine",
        "serve": "Serve models over HTTP and gRPC",
        "apply": "Add keys from the model owner",
        "triton": "Write a Triton model repository",
        "kubernetes": "Write manifests for Kubernetes and KServe",
    },
    "Anyone": {
        "run": "Run a clip or video through a model, here or on a server",
        "verify": "Check an artifact: parity, digests, engines",
        "inspect": "Describe a key file, artifact, key folder or clip",
        "keyspace": "Count the possible orders and state what limits their strength",
    },
}
"""The commands with their summaries, by the role that needs them."""
_COMMANDS: Final = tuple(name for section in SECTIONS.values() for name in section)
_EXTRAS: Final = {
    **dict.fromkeys(("torch", "onnx", "onnx_ir"), "export,cpu"),
    **dict.fromkeys(("scipy", "skimage", "jinja2", "av"), "audit"),
    **dict.fromkeys(("ray", "pyarrow"), "batch"),
}
"""Extras that install a module, by its name."""
_BUG: Final = "this is a bug in lcve"
_Result = TypeVar("_Result")
_PIPE_ENDED: Final = 128 + 13
"""Exit status of a process that SIGPIPE ends."""


class _Commands(cloup.Group):
    """Load each command's module on demand, so that the operator's commands load no module that handles keys."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of ``lcve --help``."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"lcve_deploy.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Remember signals before the module of ``lcve serve`` is loaded, which takes longer than anything before."""
        if args[:1] == ["serve"]:
            from lcve_deploy.serving.signals import early_signals

            ctx.obj = ctx.with_resource(early_signals())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections from the table, without loading a command."""
        sections = [HelpSection(heading, list(commands.items())) for heading, commands in SECTIONS.items()]
        ensure_is_cloup_formatter(formatter).write_many_sections(sections)

    def handle_bad_command_name(
        self, bad_name: str, valid_names: list[str], error: click.UsageError
    ) -> click.UsageError:
        """Suggest commands with similar names."""
        return super().handle_bad_command_name(bad_name, list(_COMMANDS), error)

    def invoke(self, ctx: click.Context) -> Any:
        """Show errors of this package as one line and a hint, not as a traceback."""
        return guarded(lambda: super(_Commands, self).invoke(ctx))


@cloup.group(cls=_Commands, context_settings=HELP_NAMES, params=[version_option()])
def lcve() -> None:
    """Recognition on encrypted clips and pictures, with the logits of the plain model.

    The model owner exports a video transformer with a key. Edge clients encrypt clips with the key. The cloud operator
    runs the model on encrypted clips and never has the key. Each role has its commands:
    """


def export_alone() -> None:
    """Run ``lcve export`` as the program ``lcve-export``."""
    from lcve_deploy.cli.export import command

    guarded(lambda: command.main(prog_name="lcve-export"))


def guarded(work: Callable[[], _Result]) -> _Result:
    """Run a command; show an expected error with its hint, and exit with 1."""
    disable_core_dumps()
    signal.signal(signal.SIGTERM, _terminated)
    warnings.showwarning = _show_warning
    sys.excepthook = _show_bug
    started = time.monotonic()
    try:
        return work()
    except LcveError as error:
        _fail(error, str(error), error.hint)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        extra = f"pip install 'lcve-deploy[{_EXTRAS[error.name]}]'"
        _fail(error, f"this needs {error.name}, which is not installed", extra)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _discard_closed_output():
            raise SystemExit(_PIPE_ENDED) from None
        _fail(error, f"{error.strerror}: {error.filename}" if error.filename else str(error), "")
    finally:
        if is_verbose():
            click.echo(f"{time.monotonic() - started:.1f} s{_memory()}", err=True)


def _fail(error: Exception, message: str, hint: str) -> NoReturn:
    from lcve_deploy.cli.show import printable

    if is_verbose():
        lines = "".join(traceback.format_exception(error)).splitlines()
        click.echo("\n".join(map(printable, lines)), err=True)
    _print_error(message, hint)
    raise SystemExit(1)


def _print_error(message: str, hint: str) -> None:
    from lcve_deploy.cli.show import printable

    click.secho("error: ", fg="red", nl=False, err=True)
    click.echo("\n".join(map(printable, message.splitlines())), err=True)
    if hint:
        click.echo(f"hint: {printable(hint)}", err=True)


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an uncaught exception, which is a bug of this package, in one line unless ``--verbose``."""
    if is_verbose() or not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    _print_error(f"{_BUG}: {kind.__name__}: {error}", "run it again with --verbose, and report the traceback")


def _memory() -> str:
    """Describe the peak memory of this process; empty if the system does not report it in KiB."""
    if sys.platform != "linux":
        return ""
    import resource

    return f", {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB of memory"


def _discard_closed_output() -> bool:
    """Return whether standard output or error is a closed pipe, as after ``head``, and discard its buffered text."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
    for stream in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(closed)


def _is_closed(stream: IO[str]) -> bool:
    """Return whether the other end of a pipe is closed, as the system reports it: the buffer may be empty."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except io.UnsupportedOperation:  # not a file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """Exit by an exception, so that unfinished outputs are removed."""
    raise SystemExit(128 + number)


def _show_warning(message: Any, category: type[Warning], *location: Any, **rest: Any) -> None:
    from lcve_deploy.cli.show import warn

    if category.__module__.startswith("lcve_deploy"):
        warn(str(message))
