"""The first screen, and what every command says of itself."""

from __future__ import annotations

import inspect
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import click.testing
import pytest

from lcve_deploy.cli import lcve
from lcve_deploy.cli.command import Command
from lcve_deploy.cli.main import SECTIONS
from lcve_deploy.cli.options.groups import VALUES

from .conftest import run_error, run_lcve, run_ok
from .test_boundaries import loaded_after

WIDTH = 80
COMMANDS = tuple(name for commands in SECTIONS.values() for name in commands)


def command_of(name: str) -> Command:
    command = lcve.get_command(click.Context(lcve), name)
    assert isinstance(command, Command)
    return command


def shown(*arguments: str) -> str:
    """Help as on a terminal of 80 columns."""
    result = click.testing.CliRunner(env={"COLUMNS": str(WIDTH)}).invoke(lcve, [*arguments, "-h"], prog_name="lcve")
    assert result.exit_code == 0, result.output
    return result.output


def test_the_first_screen_has_every_command_in_a_section_and_cuts_no_summary_off() -> None:
    screen = shown()
    assert max(map(len, screen.splitlines())) <= WIDTH
    assert "..." not in screen.replace("[ARGS]...", "")
    for role, commands in SECTIONS.items():
        assert f"\n{role}:\n" in screen
        for name, summary in commands.items():
            assert f"  {name:<10}  {summary}\n" in screen
    assert lcve.list_commands(click.Context(lcve)) == list(COMMANDS)


def test_the_first_screen_loads_no_command() -> None:
    loaded = loaded_after("from lcve_deploy.cli import lcve\nlcve(['--help'], standalone_mode=False)")
    assert not {f"lcve_deploy.cli.{name}" for name in COMMANDS} & loaded
    assert not {"numpy", "cryptography"} & loaded


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_and_shows_options_in_sections(name: str) -> None:
    screen, command = shown(name), command_of(name)
    assert max(map(len, screen.splitlines())) <= WIDTH
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.hidden or parameter.help, parameter.name
        assert parameter.opts[-1] in screen or isinstance(parameter, click.Argument)
    for group in command.option_groups:
        assert f"\n{group.title}:\n" in screen
    for option in ("-h, --help", "--version", "-q, --quiet", "-v, --verbose"):
        assert option in screen


def invocations(example: str) -> Iterator[tuple[str, list[str]]]:
    """Every ``lcve`` in a line of a shell, as a command with its arguments."""
    for part in example.replace("\\\n", " ").split("|"):
        program, *arguments = shlex.split(part)
        if program == "lcve":
            yield arguments[0], arguments[1:]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_parsed(name: str) -> None:
    examples = command_of(name).examples
    found = [(called, arguments) for example in examples for called, arguments in invocations(example)]
    assert name in [called for called, _ in found]
    for called, arguments in found:
        command = command_of(called)
        context = click.Context(command, info_name=called)
        given, left, _ = command.make_parser(context).parse_args(list(arguments))  # unknown options are errors
        assert not left
        for parameter in command.params:
            value = given.get(str(parameter.name))
            assert value or not parameter.required, f"{called} lacks {parameter.name}"
            if isinstance(parameter.type, click.Choice) and isinstance(value, str):
                parameter.type.convert(value, parameter, context)
    assert all(f"  {line}\n" in shown(name) for example in examples for line in example.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_parameters_are_typed_as_their_options_say(name: str) -> None:
    callback = command_of(name).callback
    assert callback is not None
    annotations = inspect.get_annotations(inspect.unwrap(callback))
    assert annotations.pop("return") == "None"
    assert not any("Any" in annotation for annotation in annotations.values())
    for parameter, make in getattr(callback, VALUES, {}).items():
        made = make.__name__ if inspect.isclass(make) else inspect.get_annotations(make)["return"]
        assert annotations[parameter] == made
    received = {str(each.name) for each in command_of(name).params if each.expose_value}
    assert set(annotations) <= received | set(getattr(callback, VALUES, {}))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_its_version(name: str) -> None:
    assert run_ok(name, "--version").endswith(f", version {version('lcve-deploy')}\n")


def test_lcve_export_says_its_version_and_helps() -> None:
    code = "import sys; from lcve_deploy.cli import export_alone; export_alone()"
    said = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"lcve-export, version {version('lcve-deploy')}\n"
    helped = subprocess.run([sys.executable, "-c", code, "-h"], capture_output=True, text=True, check=True)
    assert helped.stdout.startswith("Usage: lcve-export ")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(("verfy",), "'verify'"), (("exprt", "--key", "k"), "'export'"), (("keygen", "--singing"), "'--signing'")],
)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(arguments: tuple[str, ...], meant: str) -> None:
    error = run_error(*arguments)
    assert "Did you mean" in error
    assert meant in error


def test_an_unlike_command_is_answered_without_a_guess() -> None:
    assert "Did you mean" not in run_error("xyzzy")


def test_every_command_that_reports_has_json() -> None:
    assert all(any("--json" in each.opts for each in command_of(name).params) for name in COMMANDS)


def test_json_of_commands_that_write_a_file_is_valid(tmp_path: Path) -> None:
    made = json.loads(run_ok("keygen", "-o", f"{tmp_path}/key.bin", "--json"))
    assert made["output"] == f"{tmp_path}/key.bin"
    signing = json.loads(run_ok("keygen", "--signing", "-o", f"{tmp_path}/signing.pem", "--json"))
    assert signing["public_key"].endswith(".pub")
    assert json.loads(run_ok("keyspace", "--json"))["methods"]


# Quiet and verbose


def test_quiet_leaves_results_and_errors(tmp_path: Path) -> None:
    made = run_lcve("keygen", "-q", "-o", f"{tmp_path}/key.bin")
    assert made.output == ""
    assert "key id" in run_ok("inspect", "-q", f"{tmp_path}/key.bin")
    assert "exists" in run_error("keygen", "-q", "-o", f"{tmp_path}/key.bin")


def test_verbose_adds_time_and_the_traceback_of_an_error(tmp_path: Path) -> None:
    made = run_lcve("keygen", "-v", "-o", f"{tmp_path}/key.bin")
    assert made.stderr.splitlines()[-1].split(",")[0].endswith(" s")
    failed = run_lcve("keygen", "-v", "-o", f"{tmp_path}/key.bin")
    assert failed.exit_code == 1
    assert "Traceback" in failed.stderr
    assert "error: " in failed.stderr
    assert "Traceback" not in run_lcve("keygen", "-o", f"{tmp_path}/key.bin").stderr  # the next one starts as usual


def test_quiet_and_verbose_exclude_each_other(tmp_path: Path) -> None:
    assert "cannot be used together" in run_error("keygen", "-q", "-v", "-o", f"{tmp_path}/key.bin")


BUG = """
import sys
from lcve_deploy.cli import keygen, lcve
def broken(*arguments, **more):
    raise TypeError("no such thing")
keygen._create_key = broken
lcve(sys.argv[1:])
"""


@pytest.mark.parametrize("more", [(), ("-v",)])
def test_a_bug_is_one_line_and_a_traceback_if_asked_for(tmp_path: Path, more: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", BUG, "keygen", "-o", f"{tmp_path}/key.bin", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == bool(more)
    assert ("error: this is a bug in lcve: TypeError: no such thing\nhint: " in done.stderr) == (not more)
