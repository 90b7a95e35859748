"""Table 5: actions for the owner, identities for attackers."""

from __future__ import annotations

from typing import Final

from paper.experiments.records import Task, Way
from paper.findings import published
from paper.findings.compared import (
    ADAPTIVE,
    COMPARED,
    LCVE,
    PAPERS_ATTACKER,
    PLAIN,
    attackers,
    best_for_owner,
    level,
    title,
)
from paper.findings.seeds import NOT_RUN, Findings, Found, cell, percent, spread
from paper.page.markdown import paragraph, table
from paper.page.tradeoff_chart import has_points

__all__ = ["TITLE", "section"]

TITLE: Final = "Table 5 on a small scale: action up, identity down"

_REPORTED: Final = "down-"
_PICTURE: Final = (
    "![Accuracy of actions against accuracy of identities for every method, with the paper's attacker and with an "
    "adaptive one](paper.svg)"
)


def section(findings: Findings) -> str:
    """The table, the chart, and the attacker who starts from random weights."""
    head = (
        "method",
        "level",
        "action ↑ (how)",
        "identity ↓, the paper's attacker",
        "identity ↓, adaptive attacker",
        *published.PRIVACY_COLUMNS,
    )
    parts = [
        paragraph(
            "Top-1 in percent, mean and range over seeds and keys. Action: the best that the owner of the model",
            "achieves on clips of the method, as far as was tried. Identity: the digit. **The paper's attacker**",
            "has a model trained on plain clips and has never seen an encrypted one. **The adaptive attacker** has",
            "labelled clips under the attacked key, but not the key, and continues to train the model on them.",
        ),
        table(head, [_row(findings, method) for method in COMPARED]),
        _chance(findings),
        paragraph(
            "Rows of the paper with * were taken from the BDQ paper, which does not describe how its attackers were",
            "trained. The paper's own row was measured with an attacker who never saw an encrypted clip; it has no",
            "attacker who trains on encrypted clips.",
        ),
        *([_PICTURE] if has_points(findings) else []),
        "### An attacker who starts from random weights",
        _free(findings),
    ]
    return "\n\n".join(parts)


def _row(findings: Findings, method: str) -> tuple[str, ...]:
    best, found = best_for_owner(findings, method), attackers(findings, method)
    star = "*" if method.startswith(_REPORTED) else ""
    figures = published.PRIVACY.get(method)
    return (
        "LCVE + ViT Scrambling" if method == LCVE else title(method),
        level(method),
        NOT_RUN if best is None else f"{spread(best[1])} ({best[0]})",
        cell(found[PAPERS_ATTACKER]),
        cell(found[ADAPTIVE]),
        *([f"{figure}{star}" for figure in figures] if figures else ["-"] * len(published.PRIVACY_COLUMNS)),
    )


def _chance(findings: Findings) -> str:
    """What guessing gets, for the clips that the rows were tested on."""
    rows = {
        "of actions": best_for_owner(findings, PLAIN),
        "for the paper's attacker": (PAPERS_ATTACKER, findings.get(Task.IDENTITY, LCVE, PAPERS_ATTACKER)),
        "for the adaptive attacker": (ADAPTIVE, findings.get(Task.IDENTITY, LCVE, ADAPTIVE)),
    }
    texts = [
        f"{NOT_RUN if row is None or row[1] is None else percent(row[1].chance)} {name}" for name, row in rows.items()
    ]
    return paragraph(
        f"Chance (always naming the most frequent class), in percent: {', '.join(texts)}. It differs, because rows",
        "may be tested on different numbers of held-out clips.",
    )


def _free(findings: Findings) -> str:
    plain = findings.get(Task.IDENTITY, PLAIN, Way.FREE)
    encrypted = findings.get(Task.IDENTITY, LCVE, Way.FREE)
    return paragraph(
        "Under one key, LCVE is a fixed permutation of tokens and of the values inside tokens. Learned positional",
        "encodings and columns of the embedding absorb both, and at random initialisation all of them have the same",
        "distribution. So an attacker who trains from random weights on labelled encrypted clips has the same",
        "chances, in distribution, as on plain ones, and LCVE costs this attacker nothing. Measured, identity, same",
        f"budget: plain {cell(plain)}, LCVE {cell(encrypted)}{_gap(plain, encrypted)}.",
    )


def _gap(plain: Found | None, encrypted: Found | None) -> str:
    if plain is None or encrypted is None:
        return ""
    return f"; LCVE minus plain: {100 * (encrypted.mean - plain.mean):+.1f} points"
