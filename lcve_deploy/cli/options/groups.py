"""How a group of options becomes one value of a command."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from lcve_deploy.errors import LcveError

__all__ = ["VALUES", "Decorator", "as_usage_error", "hands_over", "named_options", "require_unused"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

Decorator = Callable[[_Function], _Function]

VALUES: Final = "__lcve_values__"
"""Attribute of a command's function: what makes each of its values, by parameter."""


def hands_over(parameter: str, make: Callable[..., object], *options: Decorator[Any]) -> Decorator[Any]:
    """Add options to a command, which receives one value made from all of them.

    Args:
        parameter: of the command's function, annotated as ``make`` is.
        make: takes the options by their names; its ValueError is an error of usage.
        options: options, or sections of them.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        before = len(_parameters(function))
        for option in reversed(options):
            option(function)
        names = [str(added.name) for added in _parameters(function)[before:]]

        @functools.wraps(function)
        def call(**given: Any) -> Any:
            with as_usage_error():
                value = make(**{name: given.pop(name) for name in names})
            return function(**given, **{parameter: value})

        setattr(call, VALUES, {**getattr(function, VALUES, {}), parameter: make})
        return call

    return decorate


@contextlib.contextmanager
def as_usage_error() -> Iterator[None]:
    """Show a ValueError of options that contradict each other as an error of usage."""
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
    """Return the options that the command line names, by parameter; not those that the environment sets."""
    ctx = click.get_current_context()
    return {
        parameter.name: parameter.opts[-1]
        for parameter in ctx.command.params
        if parameter.name and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def require_unused(names: Iterable[str], why: str) -> None:
    """Refuse options that the command line names and that mean nothing here.

    One that the environment sets for all commands is ignored.
    """
    named, wanted = named_options(), set(names)
    if useless := [option for name, option in named.items() if name in wanted]:
        raise click.UsageError(f"{', '.join(useless)}: {why}")
