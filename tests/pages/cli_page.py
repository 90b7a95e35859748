"""``docs/reference/cli.md``, made from the commands themselves:

    python -m tests.pages.cli_page

A test compares the page with the commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from lcve_deploy.cli import lcve
from lcve_deploy.cli.command import Command
from lcve_deploy.cli.main import SECTIONS

__all__ = ["PAGE", "render"]

PAGE: Final = Path(__file__).parents[2] / "docs/reference/cli.md"
_INTRODUCTION: Final = """<!-- made by python -m tests.pages.cli_page; do not edit -->
# Command line

`lcve COMMAND --help` prints the same as this page. `lcve-export` is the same as `lcve export`.

- A command that fails prints one error and often a hint, exits with a status other than 0, and leaves no output behind.
- Existing outputs are never overwritten.
- Results go to standard output, progress and warnings to standard error.
- A video is sampled, resized and cropped as `client/client.json` says. A folder of frames is read in the order of its
  file names, where numbers count as numbers: `2.png` comes before `10.png`. An array in a `.npy` file must be uint8
  `[T, H, W, 3]` of exactly the model's geometry; it is used unchanged."""
_BRACKET: Final = r"\["
"""Click puts defaults and ranges in brackets, which would be a link."""


def render() -> str:
    """The whole page, as Markdown."""
    context = click.Context(lcve, info_name="lcve")
    parts = [_INTRODUCTION]
    for role, commands in SECTIONS.items():
        rows = [f"| [`lcve {name}`](#lcve-{name}) | {_cell(summary)} |" for name, summary in commands.items()]
        parts.append("\n".join([f"| {role} | |", "|---|---|", *rows]))
    for name in lcve.list_commands(context):
        command = lcve.get_command(context, name)
        assert isinstance(command, Command)
        parts.extend(_section(name, command, context))
    return "\n\n".join(parts) + "\n"


def _section(name: str, command: Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"## lcve {name}"
    yield f"`lcve {name} {' '.join(command.collect_usage_pieces(context))}`"
    yield from _paragraphs(command.help or "")
    yield "\n".join(["```", *command.examples, "```"])
    arguments = [command.get_argument_help_record(argument, context) for argument in command.arguments]
    yield from _table("argument", arguments)
    for group in command.option_groups:
        yield from _table(group.title, group.get_help_records(context))
    yield from _table("Other options", command.get_default_option_group(context).get_help_records(context))


def _table(title: str, records: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = [
        f"| `{_cell(name).replace('&lt;', '<')}` | {_cell(text).replace('[', _BRACKET)} |" for name, text in records
    ]
    if rows:
        yield "\n".join([f"| {title} | meaning |", "|---|---|", *rows])


def _paragraphs(text: str) -> Iterator[str]:
    """The help of a command: paragraphs as running text; what click keeps as it is (after a ``\\b``) as blocks."""
    for paragraph in text.split("\f")[0].strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        if lines and lines[0] == "\b":
            yield "\n".join(["```", *(f"  {line}" for line in lines[1:]), "```"])
        elif lines:
            yield " ".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
