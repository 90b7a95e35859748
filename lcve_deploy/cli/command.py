"""What all commands share: options in sections, examples, ``--quiet``, ``--verbose``, ``--version`` and ``--help``."""

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

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        more["params"] = [*_in_sections(more.get("params", ())), *_common_options()]
        super().__init__(*args, **more)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are, without wrapping them."""
        formatter.write_paragraph()
        formatter.write_heading("Examples" if len(self.examples) > 1 else "Example")
        for example in self.examples:
            for line in example.splitlines():
                formatter.write(f"  {line}\n")


def command(*examples: str) -> Callable[[Callable[..., None]], Command]:
    """Make a function a command of ``lcve``; its docstring is the help.

    Args:
        examples: command lines to show under the help.
    """

    def decorate(function: Callable[..., None]) -> Command:
        made = cloup.command(cls=Command, context_settings=HELP_NAMES, examples=examples)(function)
        made.short_help = ""  # the first screen has a table of its own
        return made

    return decorate


def version_option() -> cloup.Option:
    """``--version``, for the group and for every command."""
    return cloup.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_version,
        help="Show the version and exit.",
    )


def _in_sections(parameters: Sequence[click.Parameter]) -> list[click.Parameter]:
    """Put the options of no section into one of their own, before the others; ``--json`` is shown at the end."""
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
    """``-q`` is read before ``-v``, and both before the other options."""
    quiet = cloup.Option(
        ["-q", "--quiet"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set_quiet,
        help="Show errors and results alone.",
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


def _set(ctx: click.Context, param: click.Parameter, wanted: Verbosity | None) -> None:
    """Keep what was asked for; a command starts from ``NORMAL``, whichever ran before in this process."""
    asked = ctx.meta.setdefault(__name__, set())
    if wanted is not None:
        asked.add(wanted)
    if len(asked) > 1:
        raise click.UsageError("--quiet and --verbose exclude each other", ctx)
    VERBOSITY.set(next(iter(asked), Verbosity.NORMAL))


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"{ctx.find_root().info_name}, version {version('lcve-deploy')}")
        ctx.exit()
