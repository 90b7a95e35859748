"""Turn a group of options into one value of a command."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from lcve_deploy.errors import LcveError

__all__ = ["VALUES", "Decorator", "as_usage_error", "named_options", "require_unused", "value_from_options"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

Decorator = Callable[[_Function], _Function]

VALUES: Final = "__lcve_values__"
"""Attribute of a command's function: the factory of each value, by parameter."""


def value_from_options(parameter: str, make: Callable[..., object], *options: Decorator[Any]) -> Decorator[Any]:
    """Add options to a command, which receives one value for all of them.

    Args:
        parameter: parameter of the command's function, annotated like the result of ``make``.
        make: takes the options by their names and returns the value; its ValueError becomes a usage error.
        options: options, or groups of options.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        first = len(_parameters(function))
        for option in reversed(options):
            option(function)
        names = [str(added.name) for added in _parameters(function)[first:]]

        @functools.wraps(function)
        def call(**arguments: Any) -> Any:
            with as_usage_error():
                value = make(**{name: arguments.pop(name) for name in names})
            return function(**arguments, **{parameter: value})

        setattr(call, VALUES, {**getattr(function, VALUES, {}), parameter: make})
        return call

    return decorate


@contextlib.contextmanager
def as_usage_error() -> Iterator[None]:
    """Report a ValueError about contradictory options as a usage error."""
    try:
        yield
    except LcveError:
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _parameters(function: Callable[..., Any]) -> list[click.Parameter]:
    parameters: list[click.Parameter] = getattr(function, "__click_params__", [])
    return parameters


def named_options() -> dict[str, str]:
    """Return the options on the command line, by parameter, without those from the environment."""
    ctx = click.get_current_context()
    return {
        parameter.name: parameter.opts[-1]
        for parameter in ctx.command.params
        if parameter.name and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def require_unused(names: Iterable[str], reason: str) -> None:
    """Refuse options on the command line that have no effect here.

    Options that the environment sets for all commands are ignored.
    """
    without_effect = set(names)
    if used := [option for name, option in named_options().items() if name in without_effect]:
        raise click.UsageError(f"{', '.join(used)}: {reason}")
