"""``docs/evidence/mutants.md``, made from the result file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from mutants.modules import MODULES

__all__ = ["PAGE", "RESULTS", "page", "write_page"]

RESULTS: Final = Path(__file__).parent / "results.json"
PAGE: Final = Path(__file__).parent.parent / "docs/evidence/mutants.md"
_HEAD: Final = """# Mutation tests

Do the tests fail if the code is wrong? `make mutants` makes small changes to the code (mutations), one at a time, in
a copy of the tree. For each mutation it runs the tests of the changed module, those that run the changed line first.
Examples: `<` becomes `<=`, `+` becomes `-`, a number grows by one, a condition is negated, a loop runs zero times, a
call whose result is not used is removed. A mutation is *killed* if a test fails, or if the tests take eight times as
long as without it. If it *survives*, no test checks what it changes.

The tool is [Cosmic Ray](https://cosmic-ray.readthedocs.io). By itself, it replaces every operator by every other one.
Here only one or two replacements are used for each operator, and the removal of calls is added
(`mutants/operators.py`). Type annotations are not mutated. `mutants/modules.py` lists the tests for each module.

```bash
make mutants
make mutants MUTANTS='--only parity rotation'
make mutants MUTANTS='--minutes 60 --jobs 2'
make mutants MUTANTS='--sample 40'
```

Progress is stored in `mutants/work/`. If the command is stopped, the next one continues from there. If a module has
changed, its mutations are tested from the beginning. After you add tests, `--survivors` tests only the survivors again,
and `--again` tests everything again. `--sample N` tests at most N mutations of each module, drawn with a fixed seed; a
call without it continues with the rest. Results are written to `mutants/results.json`, and this page is generated from
them.

If a survivor does not change what the code computes, such as another buffer size, it is listed as *accepted* in
`mutants/accepted.toml`, with the reason. The score is the share of killed mutations among those that were tested and
are not accepted.
"""


def write_page() -> None:
    """Write the page again."""
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


def page(results: dict[str, Any]) -> str:
    """The page, for these results."""
    modules = results["modules"]
    lines = [_HEAD, "## Score", "", f"With {results['tool']}:", ""]
    lines += [
        "| module | mutations | tested | killed | of these, timeouts | survived | accepted | score |",
        "|---|" + "---:|" * 7,
    ]
    lines += [_row(f"`{path}`", [figures]) for path, figures in modules.items()]
    lines += [_row("**all**", list(modules.values())), ""]
    if waiting := [path for path in _paths() if path not in modules]:
        lines += [f"Modules that have not been run yet: {', '.join(f'`{path}`' for path in waiting)}.", ""]
    lines += ["## Survivors", "", *_survivors(modules)]
    return "\n".join(lines).rstrip() + "\n"


def _paths() -> list[str]:
    return [module.path for modules in MODULES.values() for module in modules]


def _row(name: str, figures: list[dict[str, Any]]) -> str:
    planted, missing, timeout, survived, accepted = (
        sum(one[column] for one in figures) for column in ("planted", "missing", "timeout", "survived", "accepted")
    )
    counted = planted - accepted
    score = f"{100 * (planted - survived) / counted:.1f} %" if counted else "none"
    return (
        f"| {name} | {planted + missing} | {planted} | {planted - survived} | {timeout} | {survived} | {accepted} "
        f"| {score} |"
    )


def _survivors(modules: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for path, figures in modules.items():
        alive = [survivor for survivor in figures["survivors"] if "accepted" not in survivor]
        if alive:
            lines += [f"`{path}`", "", *map(_survivor, alive), ""]
    return lines or ["None except the accepted ones."]


def _survivor(survivor: dict[str, Any]) -> str:
    planted = survivor["planted"] or "(removed)"
    return f"- line {survivor['line']}, {survivor['operator']}: `{survivor['was']}` → `{planted}`"
