"""Which mutations are planted: a choice of Cosmic Ray's, and one of our own that removes a statement.

Cosmic Ray replaces every operator by every other one. Most of those are killed by any test that runs
the line, so one or two replacements are kept for each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import cosmic_ray.plugins
import parso
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.work_item import MutationSpec

__all__ = ["RemoveCall", "is_chosen", "offer_removal", "unseen_spans"]

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
_REPLACEMENTS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "BinaryOperator": _BINARY,
    "ComparisonOperator": _COMPARISONS,
    "UnaryOperator": _UNARY,
}
_NAME: Final = re.compile(r"core/Replace(BinaryOperator|ComparisonOperator|UnaryOperator)_([A-Za-z]+)_([A-Za-z]+)")
_PROVIDER: Final = "lcve"

Span = tuple[tuple[int, int], tuple[int, int]]


class RemoveCall(Operator):  # type: ignore[misc]  # Cosmic Ray is not typed
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


def is_chosen(mutation: MutationSpec, unseen: Sequence[Span]) -> bool:
    """Whether a mutation is planted."""
    if any(begin <= tuple(mutation.start_pos) < end for begin, end in unseen):
        return False
    match = _NAME.fullmatch(mutation.operator_name)
    return match is None or match[3] in _REPLACEMENTS[match[1]].get(match[2], ())


def unseen_spans(source: str) -> tuple[Span, ...]:
    """What only type checkers see: annotations, and imports for them."""
    return tuple(
        ((seen.lineno, seen.col_offset), (seen.end_lineno or 0, seen.end_col_offset or 0))
        for node in ast.walk(ast.parse(source))
        for seen in _unseen(node)
    )


def _unseen(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield node
        case ast.AnnAssign():
            yield node.annotation
        case ast.arg(annotation=ast.expr() as annotation) | ast.FunctionDef(returns=ast.expr() as annotation):
            yield annotation


def _is_call(node: Any) -> bool:
    last = node.children[-1] if node.type in ("atom_expr", "power") else None
    return last is not None and last.type == "trailer" and last.children[0] == "("
