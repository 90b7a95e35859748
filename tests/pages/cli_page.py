"""``docs/reference/cli.md``, made from the commands themselves:

    python -m tests.pages.cli_page

A test compares the page with the commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from lcve_deploy.cli import lcve

__all__ = ["PAGE", "render"]

PAGE: Final = Path(__file__).parents[2] / "docs/reference/cli.md"
_INTRODUCTION: Final = """<!-- made by python -m tests.pages.cli_page; do not edit -->
# Command line

`lcve COMMAND --help` prints the same as this page. `lcve-export` is the same as `lcve export`.

- A command that fails prints one error and often a hint, exits with a status other than 0, and leaves no output behind.
- Existing outputs are never overwritten.
- Results go to standard output, progress and notes to standard error.
- A video is sampled, resized and cropped as `client/client.json` says. A folder of frames is read in the order of its
  file names, where numbers count as numbers: `2.png` comes before `10.png`. An array in a `.npy` file must be uint8
  `[T, H, W, 3]` of exactly the model's geometry; it is used unchanged."""
_BRACKET: Final = r"\["
"""Click puts defaults and ranges in brackets, which would be a link."""
_LONG_SUMMARY: Final = 1000
"""Characters that no summary of a command has, so that none is cut off."""


def render() -> str:
    """The whole page, as Markdown."""
    context = click.Context(lcve, info_name="lcve")
    commands = [(name, lcve.get_command(context, name)) for name in lcve.list_commands(context)]
    found = [(name, command) for name, command in commands if command is not None and not command.hidden]
    overview = [f"| [`lcve {name}`](#lcve-{name}) | {_summary(command)} |" for name, command in found]
    sections = [part for name, command in found for part in _section(name, command, context)]
    return "\n\n".join([_INTRODUCTION, "\n".join(["| command | does |", "|---|---|", *overview]), *sections]) + "\n"


def _summary(command: click.Command) -> str:
    return _cell(command.get_short_help_str(limit=_LONG_SUMMARY))


def _section(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"## lcve {name}"
    yield f"`lcve {name} {' '.join(command.collect_usage_pieces(context))}`"
    yield from _paragraphs(command.help or "")
    rows = [_row(parameter, context) for parameter in command.get_params(context)]
    options = [row for row in rows if row]
    if options:
        yield "\n".join(["| option | meaning |", "|---|---|", *options])


def _paragraphs(text: str) -> Iterator[str]:
    """The help of a command: paragraphs as running text; what click keeps as it is (after a ``\\b``) as blocks."""
    for paragraph in text.split("\f")[0].strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        if lines and lines[0] == "\b":
            yield "\n".join(["```", *(f"  {line}" for line in lines[1:]), "```"])
        elif lines:
            yield " ".join(lines)


def _row(parameter: click.Parameter, context: click.Context) -> str:
    """A row for an option; empty for arguments, which the usage shows, for ``--help``, and for what is hidden."""
    record = parameter.get_help_record(context)
    if record is None or not isinstance(parameter, click.Option) or "--help" in parameter.opts:
        return ""
    return f"| `{_cell(record[0]).replace('&lt;', '<')}` | {_cell(record[1]).replace('[', _BRACKET)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
