"""Which mutations are planted: a choice of Cosmic Ray's, and one of our own that removes a statement.

Cosmic Ray replaces every operator by every other one. Most of those are killed by any test that runs
the line, so one or two replacements are kept for each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, Final

import cosmic_ray.plugins
import parso
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.work_item import MutationSpec

__all__ = ["RemoveCall", "is_chosen", "offer_removal", "unplanted_lines"]

_BINARY: Final = {
    "Add": ("Sub",),
    "Sub": ("Add",),
    "Mul": ("FloorDiv",),
    "Div": ("Mul",),
    "FloorDiv": ("Mul",),
    "Mod": ("FloorDiv",),
    "Pow": ("Mul",),
    "LShift": ("RShift",),
    "RShift": ("LShift",),
    "BitOr": ("BitAnd",),
    "BitAnd": ("BitOr",),
    "BitXor": ("BitOr",),
}
_COMPARISONS: Final = {
    "Eq": ("NotEq",),
    "NotEq": ("Eq",),
    "Lt": ("LtE", "GtE"),
    "LtE": ("Lt", "Gt"),
    "Gt": ("GtE", "LtE"),
    "GtE": ("Gt", "Lt"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
    "In": ("NotIn",),
    "NotIn": ("In",),
}
_UNARY: Final = {"USub": ("UAdd",), "Delete": ("Not", "Invert")}
_REPLACEMENTS: Final = {"BinaryOperator": _BINARY, "ComparisonOperator": _COMPARISONS, "UnaryOperator": _UNARY}
_NAME: Final = re.compile(r"core/Replace(BinaryOperator|ComparisonOperator|UnaryOperator)_([A-Za-z]+)_([A-Za-z]+)")
_PROVIDER: Final = "lcve"


class RemoveCall(Operator):
    """Puts ``pass`` in place of a statement that is nothing but a call: what only checks or only writes."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Of the call, where ``node`` is a line with one."""
        if node.type == "simple_stmt" and _is_call(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """The line without its call."""
        removed = parso.parse("pass").children[0]
        removed.prefix = node.children[0].get_first_leaf().prefix
        node.children[0] = removed
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """As Cosmic Ray wants them."""
        return (Example("check(x)\n", "pass\n"), Example("if a:\n    a.require()\n", "if a:\n    pass\n"))


def offer_removal() -> None:
    """Make our operator known to Cosmic Ray in this process."""
    cosmic_ray.plugins.OPERATOR_PROVIDERS[_PROVIDER] = {RemoveCall.__name__: RemoveCall}


def is_chosen(mutation: MutationSpec, skipped: frozenset[int]) -> bool:
    """Whether a mutation is planted."""
    if skipped.intersection(range(mutation.start_pos[0], mutation.end_pos[0] + 1)):
        return False
    match = _NAME.fullmatch(mutation.operator_name)
    return match is None or match[3] in _REPLACEMENTS[match[1]].get(match[2], ())


def unplanted_lines(source: str) -> frozenset[int]:
    """Lines that only type checkers and readers see: annotations with ``|``, and blocks ``TYPE_CHECKING``."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        for seen in _unseen(node):
            lines.update(range(seen.lineno, (seen.end_lineno or seen.lineno) + 1))
    return frozenset(lines - _lines_of_defaults(source))


def _unseen(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield from node.body
        case ast.AnnAssign(value=None):
            yield node.annotation
        case ast.FunctionDef():
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            annotations = [argument.annotation for argument in arguments] + [node.returns]
            yield from (one for one in annotations if one is not None)


def _lines_of_defaults(source: str) -> set[int]:
    """Lines with a default are planted, although an annotation stands beside it."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return {
        default.lineno
        for function in functions
        for default in [*function.args.defaults, *function.args.kw_defaults]
        if default is not None
    }


def _is_call(node: Any) -> bool:
    last = node.children[-1] if node.type in ("atom_expr", "power") else None
    return last is not None and last.type == "trailer" and last.children[0] == "("
