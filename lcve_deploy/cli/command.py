"""Common parts of commands: options in sections, examples, ``--quiet``, ``--verbose``, ``--version`` and ``--help``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

import click
import cloup

from lcve_deploy.cli.verbosity import VERBOSITY, Verbosity

__all__ = ["HELP_NAMES", "Command", "command", "version_option"]

HELP_NAMES: Final = {"help_option_names": ["-h", "--help"]}


class Command(cloup.Command):
    """A command with examples under its help.

    Args:
        examples: command lines; long ones are broken with a backslash.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        settings["params"] = [*_in_sections(settings.get("params", ())), *_common_options()]
        super().__init__(*args, **settings)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are, without wrapping them."""
        formatter.write_paragraph()
        formatter.write_heading("Examples" if len(self.examples) > 1 else "Example")
        for example in self.examples:
            for line in example.splitlines():
                formatter.write(f"  {line}\n")


def command(*examples: str) -> Callable[[Callable[..., None]], Command]:
    """Turn a function into a command of ``lcve``; its docstring becomes the help.

    Args:
        examples: command lines to show under the help.
    """

    def decorate(function: Callable[..., None]) -> Command:
        decorated = cloup.command(cls=Command, context_settings=HELP_NAMES, examples=examples)(function)
        decorated.short_help = ""  # ``lcve --help`` has its own summaries
        return decorated

    return decorate


def version_option() -> cloup.Option:
    """Return ``--version``, for the group and for every command."""
    return cloup.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_version,
        help="Show the version and exit.",
    )


def _in_sections(parameters: Sequence[click.Parameter]) -> list[click.Parameter]:
    """Put options without a section into one called ``Options``, before the others; ``--json`` comes last."""
    main = cloup.OptionGroup("Options")
    first: list[click.Parameter] = []
    later: list[click.Parameter] = []
    for parameter in parameters:
        is_main = isinstance(parameter, cloup.Option) and parameter.group is None and parameter.name != "as_json"
        if isinstance(parameter, cloup.Option) and is_main:
            parameter.group = main
        (first if is_main else later).append(parameter)
    return [*first, *later]


def _common_options() -> list[cloup.Option]:
    """Return ``-q``, ``-v`` and ``--version``; ``-q`` is parsed before ``-v``, and both before other options."""
    quiet = cloup.Option(
        ["-q", "--quiet"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set_quiet,
        help="Show only errors and results.",
    )
    verbose = cloup.Option(
        ["-v", "--verbose"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set_verbose,
        help="Also show time, memory, and tracebacks of errors.",
    )
    return [quiet, verbose, version_option()]


def _set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    _set(ctx, param, Verbosity.QUIET if value else None)


def _set_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    _set(ctx, param, Verbosity.VERBOSE if value else None)


def _set(ctx: click.Context, param: click.Parameter, requested: Verbosity | None) -> None:
    """Record the verbosity; each command starts from ``NORMAL``, even if another ran before in this process."""
    received = ctx.meta.setdefault(__name__, set())
    if requested is not None:
        received.add(requested)
    if len(received) > 1:
        raise click.UsageError("--quiet and --verbose cannot be used together", ctx)
    VERBOSITY.set(next(iter(received), Verbosity.NORMAL))


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"{ctx.find_root().info_name}, version {version('lcve-deploy')}")
        ctx.exit()
