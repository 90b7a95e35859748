"""What Triton 2.51 answers, and where ``lcve serve`` answers otherwise on purpose, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.conformance.servers import LCVE

__all__ = ["CRASHES_TRITON", "GRPC_CODES", "HTTP_STATUS", "Difference", "expected_code", "expected_status"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Cases that ``lcve serve`` answers otherwise.

    Args:
        reason: why.
        answer: status or code in place of Triton's.
        cases: their names.
    """

    reason: str
    answer: int | str
    cases: tuple[str, ...]


CRASHES_TRITON: Final = frozenset({"shape with a huge number"})
"""Over HTTP; asked of ``lcve serve`` alone."""

HTTP_STATUS: Final[Mapping[int, tuple[str, ...]]] = {
    404: (
        "health of another name",
        "version that is no number ready",
        "server metadata, with a slash",
        "model metadata, unknown version",
        "model metadata, version that is no number",
        "model metadata, unknown model",
        "config, unknown version",
        "config, unknown model",
        "models, without a name",
        "nothing of a model",
        "root",
        "another version of the protocol",
        "nothing of the protocol",
        "metrics on the port of requests",
        "system region that is not there",
        "input of an unknown region",
        "output into an unknown region",
        "unknown model",
        "unknown version",
        "version that is no number",
        "version 0",
    ),
    405: (
        "live, by POST",
        "ready, by HEAD",
        "server metadata, by POST",
        "infer, by GET",
        "infer, by PUT",
        "index, by GET",
    ),
    400: (
        "unknown version ready",
        "unknown model ready",
        "statistics, unknown version",
        "statistics, unknown model",
        "register without a key",
        "CUDA, register",
        "JSON, parameter that is an object",
        "JSON, parameter null",
    ),
    500: (
        "index, ready is no truth value",
        "index, body that is not JSON",
        "register what is not there",
        "register another path",
        "register, empty body",
        "JSON, parameters that are a list",
        "JSON, timeout that is text",
        "inputs missing",
        "inputs no list",
        "name missing",
        "name a number",
        "datatype missing",
        "shape missing",
        "shape no list",
        "shape of text",
        "shape of fractions",
        "shape below zero",
        "shape beyond 64 bits",
        "data too short",
        "data too long",
        "data no list",
        "data of text",
        "data of truth values",
        "data of fractions",
        "data below 0",
        "data null",
        "id a number",
        "output without a name",
        "outputs no list",
        "classes below zero",
        "not JSON",
        "JSON that ends early",
        "JSON and more",
        "JSON that is a list",
        "JSON that is null",
        "JSON nested without end",
        "size below zero",
        "size that is text",
        "header length too small",
        "header length too large",
        "binary without header length",
        "gzip that ends early",
    ),
    501: ("encoding that nobody knows", "encoding of browsers"),
    503: ("load", "unload", "load, unknown model"),
    200: ("data above 255", "output twice", "JSON in Latin-1"),
}
"""Of Triton, where it is not 200 for what is good and 400 for what is bad."""

GRPC_CODES: Final[Mapping[str, tuple[str, ...]]] = {
    "INVALID_ARGUMENT": (
        "version that is no number ready",
        "model metadata, version that is no number",
        "statistics, unknown version",
        "statistics, unknown model",
        "CUDA, register",
        "timeout that is text",
    ),
    "NOT_FOUND": (
        "model metadata, unknown version",
        "model metadata, unknown model",
        "config, unknown version",
        "config, unknown model",
        "system region that is not there",
        "input of an unknown region",
        "output into an unknown region",
        "unknown model",
        "no model",
        "unknown version",
    ),
    "INTERNAL": (
        "register what is not there",
        "register without a key",
        "register another path",
        "shape with a huge number",
    ),
    "UNIMPLEMENTED": ("index of a repository",),
    "UNAVAILABLE": ("load", "unload", "load, unknown model"),
    "OK": ("more bytes than inputs", "values above 255", "output twice"),
}
"""Of Triton, where it is not OK for what is good and INVALID_ARGUMENT for what is bad."""

_CLIENTS_FAULT: Final = "what cannot be read is the client's fault, and no failure of the server"
_NOT_HERE: Final = "a model or version that is not there is not found, whatever is asked of it"
_BINDING: Final = "a binding must be whole; Triton knows none"
_KEY: Final = "the key of a clip is found by its binding, and may not be there; Triton knows no keys"
_LABELS: Final = "the order of the logits is the key holder's secret, so that a class's number means nothing here"
_VALUES: Final = "values and tensors are taken as they are or refused, never wrapped or passed over"
_OPERATOR: Final = "what is served, and how it logs, is for the operator to say; load looks at the folder again"
_MEMORY: Final = "a region that cannot be opened is the client's fault; keys are names, and no paths"

HTTP_DIFFERENCES: Final = (
    Difference(
        reason=_CLIENTS_FAULT,
        answer=400,
        cases=(
            "index, ready is no truth value",
            "index, body that is no object",
            "index, body that is not JSON",
            "JSON, parameters that are a list",
            "JSON, timeout that is text",
            "inputs missing",
            "inputs no list",
            "name missing",
            "name a number",
            "datatype missing",
            "shape missing",
            "shape no list",
            "shape of text",
            "shape of fractions",
            "shape below zero",
            "shape beyond 64 bits",
            "data too short",
            "data too long",
            "data no list",
            "data of text",
            "data of truth values",
            "data of fractions",
            "data below 0",
            "data null",
            "id a number",
            "output without a name",
            "outputs no list",
            "classes below zero",
            "not JSON",
            "JSON that ends early",
            "JSON and more",
            "JSON that is a list",
            "JSON that is null",
            "JSON in Latin-1",
            "JSON nested without end",
            "size below zero",
            "size that is text",
            "header length too small",
            "header length too large",
            "binary without header length",
            "gzip that ends early",
            "encoding that nobody knows",
            "encoding of browsers",
        ),
    ),
    Difference(reason=_CLIENTS_FAULT, answer=400, cases=("version that is no number ready",)),
    Difference(reason=_NOT_HERE, answer=404, cases=("statistics, unknown version", "statistics, unknown model")),
    Difference(reason=_KEY, answer=404, cases=("JSON, the binding of another key",)),
    Difference(reason=_BINDING, answer=400, cases=("JSON, part of a binding",)),
    Difference(reason=_LABELS, answer=400, cases=("JSON, two best classes",)),
    Difference(reason=_VALUES, answer=400, cases=("data above 255", "output twice")),
    Difference(
        reason=_MEMORY,
        answer=400,
        cases=("register what is not there", "register another path", "register, empty body"),
    ),
    Difference(reason=_OPERATOR, answer=200, cases=("load",)),
    Difference(reason=_OPERATOR, answer=400, cases=("unload",)),
    Difference(reason=_NOT_HERE, answer=404, cases=("load, unknown model",)),
)
GRPC_DIFFERENCES: Final = (
    Difference(
        reason=_NOT_HERE,
        answer="NOT_FOUND",
        cases=(
            "model metadata, version that is no number",
            "version that is no number",
            "statistics, unknown version",
            "statistics, unknown model",
            "load, unknown model",
        ),
    ),
    Difference(reason=_NOT_HERE, answer="OK", cases=("version that is no number ready",)),
    Difference(reason=_KEY, answer="NOT_FOUND", cases=("the binding of another key",)),
    Difference(reason=_BINDING, answer="INVALID_ARGUMENT", cases=("part of a binding",)),
    Difference(reason=_LABELS, answer="INVALID_ARGUMENT", cases=("two best classes",)),
    Difference(
        reason=_VALUES,
        answer="INVALID_ARGUMENT",
        cases=("more bytes than inputs", "values above 255", "output twice", "shape with a huge number"),
    ),
    Difference(
        reason=_MEMORY,
        answer="INVALID_ARGUMENT",
        cases=("register what is not there", "register without a key", "register another path"),
    ),
    Difference(reason=_OPERATOR, answer="OK", cases=("load",)),
    Difference(
        reason=_OPERATOR,
        answer="INVALID_ARGUMENT",
        cases=("unload", "index of a repository", "log settings", "trace settings"),
    ),
)

_DEFAULT_STATUS: Final = {"bad": 400}
_DEFAULT_CODE: Final = {"bad": "INVALID_ARGUMENT"}


def expected_status(server: str, group: str, name: str) -> int:
    """Status that a server answers to a case of ``HTTP_CASES``."""
    listed = {case: status for status, cases in HTTP_STATUS.items() for case in cases}
    status = listed.get(name, _DEFAULT_STATUS.get(group, 200))
    return int(_own(server, HTTP_DIFFERENCES, name, status))


def expected_code(server: str, group: str, name: str) -> str:
    """Code that a server answers to a case of ``GRPC_CASES``."""
    listed = {case: code for code, cases in GRPC_CODES.items() for case in cases}
    code = listed.get(name, _DEFAULT_CODE.get(group, "OK"))
    return str(_own(server, GRPC_DIFFERENCES, name, code))


def _own(server: str, differences: tuple[Difference, ...], name: str, theirs: int | str) -> int | str:
    own = {case: difference.answer for difference in differences for case in difference.cases}
    return own.get(name, theirs) if server == LCVE else theirs
