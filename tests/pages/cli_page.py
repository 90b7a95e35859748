"""``docs/reference/cli.md``, made from the commands themselves:

    python -m tests.pages.cli_page

A test compares the page with the commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from lcve_deploy.cli import lcve, main

__all__ = ["PAGE", "render"]

PAGE: Final = Path(__file__).parents[2] / "docs/reference/cli.md"
_INTRODUCTION: Final = """<!-- made by python -m tests.pages.cli_page; do not edit -->
# Command line

`lcve --help` and `lcve COMMAND --help` print what this page has. `lcve-export` is the same as `lcve export`.

- A command that fails prints one error and often a hint, exits with a status other than 0, and leaves no output behind.
- Existing outputs are never overwritten.
- Results go to standard output, progress and notes to standard error.
- A video is sampled, resized and cropped as `client/client.json` says. A folder of frames is read in the order of its
  file names, where numbers count as numbers: `2.png` comes before `10.png`. An array in a `.npy` file must be uint8
  `[T, H, W, 3]` of exactly the model's geometry, or `[H, W, 3]` for a model of single pictures; it is used
  unchanged."""
_BRACKET: Final = r"\["
"""Click puts defaults and ranges in brackets, which would be a link."""
_LONG_SUMMARY: Final = 1000
"""Characters that no summary of a command has, so that none is cut off."""
_COMMON: Final = {"--help", "--version", "--quiet", "--verbose"}
"""Options that every command has."""


def render() -> str:
    """The whole page, as Markdown."""
    context = click.Context(lcve, info_name="lcve", help_option_names=["-h", "--help"])  # click keeps the first
    commands = {name: lcve.get_command(context, name) for name in lcve.list_commands(context)}
    shown = {name: command for name, command in commands.items() if command is not None and not command.hidden}
    sections = [part for name, command in shown.items() for part in _section(name, command, context)]
    introduction = "\n".join([_INTRODUCTION, *_common(next(iter(shown.values())), context)])
    return "\n\n".join([introduction, *_overview(shown), *sections]) + "\n"


def _common(command: click.Command, parent: click.Context) -> Iterator[str]:
    """A line for each option that every command has."""
    context = click.Context(command, parent=parent)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and _COMMON & set(parameter.opts) and "--help" not in parameter.opts:
            yield f"- `{_cell(record[0])}`, for every command: {_cell(record[1])}"


def _overview(commands: dict[str, click.Command]) -> Iterator[str]:
    """A table of commands for each section of the first screen, or one of all."""
    sections: dict[str, dict[str, str]] = getattr(main, "SECTIONS", {"": dict.fromkeys(commands, "")})
    for heading, summaries in sections.items():
        rows = [
            f"| [`lcve {name}`](#lcve-{name}) | {_cell(text) or _summary(commands[name])} |"
            for name, text in summaries.items()
        ]
        yield "\n".join([f"| {heading or 'command'} | |", "|---|---|", *rows])


def _summary(command: click.Command) -> str:
    return _cell(command.get_short_help_str(limit=_LONG_SUMMARY))


def _section(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"## lcve {name}"
    yield f"`lcve {name} {' '.join(command.collect_usage_pieces(context))}`"
    yield from _paragraphs(command.help or "")
    if examples := getattr(command, "examples", ()):
        yield "<!-- test: skip, an example of the help -->\n```bash\n" + "\n".join(examples) + "\n```"
    groups: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        if row := _row(parameter, context):
            groups.setdefault(_group(parameter), []).append(row)
    for title, rows in groups.items():
        yield "\n".join([f"| {title} | |", "|---|---|", *rows])


def _group(parameter: click.Parameter) -> str:
    """The section of the help that a parameter is in."""
    if isinstance(parameter, click.Argument):
        return "argument"
    title = getattr(getattr(parameter, "group", None), "title", None) or "option"
    return "option" if title in {"Options", "Other options"} else _cell(title)


def _paragraphs(text: str) -> Iterator[str]:
    """The help of a command: paragraphs as running text; what click keeps as it is (after a ``\\b``) as blocks."""
    for paragraph in text.split("\f")[0].strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        if lines and lines[0] == "\b":
            yield "\n".join(["```", *(f"  {line}" for line in lines[1:]), "```"])
        elif lines:
            yield " ".join(lines)


def _row(parameter: click.Parameter, context: click.Context) -> str:
    """A row of a table; empty for what is hidden, common to all commands, or has no help."""
    record = parameter.get_help_record(context)
    if record is None or not record[1].strip() or _COMMON & set(parameter.opts):
        return ""
    names = _cell(record[0]).replace("&lt;", "<")
    meaning = _cell(record[1]).replace("[", r"\[")  # not a link
    return f"| `{names}` | {meaning} |"


def _cell(text: str) -> str:
    return " ".join(text.replace(r"\[", "[").split()).replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
