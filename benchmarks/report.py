"""Write ``docs/evidence/benchmarks.md`` and its chart from ``benchmarks/results/benchmarks.json``."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.common.files import DOCS

PARTS = ("peers", "scrambled", "scaling", "peak", "encryption", "rotations", "exports", "opening", "serving", "sizes")
"""In the order of the page; each is a module of ``benchmarks/parts/`` with ``measure``, ``TITLE`` and ``section``."""

_PAGE = """# Benchmarks

Made by `make bench`; `make bench-sizes` for the large models. The model is a full-size VideoMAE-B with random weights
(16×224×224, cube 2×16×16, float32) where nothing else is said. Ratios carry over to other machines better than seconds
do: all that is compared runs in one process in turn, and a ratio is the median over the rounds, with its quartiles.

{caution}![Latency of one clip by runtime, and how it scales](benchmarks.svg)

{sections}
"""


_ENOUGH = 20
_CAUTION = (
    "**A first impression**: these parts ran with fewer than {enough} rounds, "
    "those with one or two of them beside other work: {names}.\n\n"
)


def render(results: dict[str, Any]) -> str:
    """The page; a part without figures is left out."""
    there = [name for name in PARTS if name in results]
    short = [_part(name).TITLE for name in there if results[name]["pairs"] < _ENOUGH]
    caution = _CAUTION.format(enough=_ENOUGH, names=", ".join(short)) if short else ""
    return _PAGE.format(caution=caution, sections="\n\n".join(_section(name, results[name]) for name in there))


def write_page(results: dict[str, Any]) -> tuple[Path, ...]:
    """Write the page and the chart."""
    from benchmarks.chart import write_chart

    page, chart = DOCS / "benchmarks.md", DOCS / "benchmarks.svg"
    page.write_text(render(results), encoding="utf-8")
    if "serving" in results:
        serving = _part("serving")
        serving.write_chart(results["serving"]["figures"], DOCS / serving.CHART)
    if not {"peers", "scaling"} <= set(results):
        return (page,)
    write_chart(results, chart)
    return page, chart


def _part(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.parts.{name}")


def _section(name: str, result: dict[str, Any]) -> str:
    part = _part(name)
    versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
    stamp = f"<sub>{result['date']}; {result['machine']}; {versions}</sub>"
    return f"## {part.TITLE}\n\n{part.section(result['figures'])}\n\n{stamp}"
