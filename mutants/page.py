"""``docs/mutants.md``, made from the result file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

__all__ = ["PAGE", "RESULTS", "page", "write_page"]

RESULTS: Final = Path(__file__).parent / "results.json"
PAGE: Final = Path(__file__).parent.parent / "docs/mutants.md"
_HEAD: Final = """# Mutation tests

Do the tests fail if the code is wrong? `make mutants` plants small mutations, one at a time, in a copy of the tree, and
runs the tests of that module on each: `<` becomes `<=`, `+` becomes `-`, a number grows by one, a condition is
negated, a loop runs zero times, a statement that is only a call is removed. A mutation is *killed* if a test fails, or
if the tests take eight times as long as they do without it. What *survives* shows a line that no test asks for.

The tool is [Cosmic Ray](https://cosmic-ray.readthedocs.io). It replaces every operator by every other one; one or two
replacements are kept for each, and removing a call is added (`mutants/operators.py`). Annotations are left alone.
`mutants/modules.py` says which tests run for which module.

```bash
make mutants
make mutants MUTANTS='--only parity rotation'
make mutants MUTANTS='--minutes 60 --jobs 2'
```

Work is kept in `mutants/work/`: a call that was stopped goes on where it was. A module that has changed starts over.
After new tests, `--survivors` asks only the survivors again, and `--again` starts all over. Results go to
`mutants/results.json`; this page is made from them.

A survivor that changes nothing that can be seen, such as a wrong guess at the size of a buffer, is *accepted*, with its
reason, in `mutants/accepted.toml`. The score is the share of killed mutations among those that are not accepted.
"""


def write_page() -> None:
    """Write the page again."""
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


def page(results: dict[str, Any]) -> str:
    """The page, for these results."""
    modules = results["modules"]
    lines = [_HEAD, "## Score", "", f"With {results['tool']}:", ""]
    lines += ["| module | planted | killed | of them timeouts | survived | accepted | score |", "|---|" + "---:|" * 6]
    lines += [_row(f"`{path}`", [figures]) for path, figures in modules.items()]
    lines += [_row("**all**", list(modules.values())), ""]
    if missing := {path: figures["missing"] for path, figures in modules.items() if figures["missing"]}:
        listed = ", ".join(f"`{path}` {count}" for path, count in missing.items())
        lines += [f"Not yet planted: {listed}.", ""]
    lines += ["## Survivors", "", *_survivors(modules)]
    return "\n".join(lines).rstrip() + "\n"


def _row(name: str, figures: list[dict[str, Any]]) -> str:
    planted, timeout, survived, accepted = (
        sum(one[column] for one in figures) for column in ("planted", "timeout", "survived", "accepted")
    )
    score = f"{100 * (planted - survived) / max(planted - accepted, 1):.1f} %"
    return f"| {name} | {planted} | {planted - survived} | {timeout} | {survived} | {accepted} | {score} |"


def _survivors(modules: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for path, figures in modules.items():
        alive = [survivor for survivor in figures["survivors"] if "accepted" not in survivor]
        if alive:
            lines += [f"`{path}`", "", *map(_survivor, alive), ""]
    return lines or ["None but those that are accepted."]


def _survivor(survivor: dict[str, Any]) -> str:
    planted = survivor["planted"] or "(removed)"
    return f"- line {survivor['line']}, {survivor['operator']}: `{survivor['was']}` → `{planted}`"
