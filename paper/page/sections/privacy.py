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

TITLE: Final = "Table 5 in small: action up, identity down"

_REPORTED: Final = "down-"
_PICTURE: Final = (
    "![Accuracy of actions against accuracy of identities for every method, with the paper's attacker and with one who "
    "adapts](paper.svg)"
)


def section(findings: Findings) -> str:
    """The table, the chart, and the attacker who starts from nothing."""
    head = (
        "method",
        "level",
        "action ↑ (how)",
        "identity ↓, the paper's attacker",
        "identity ↓, who adapts",
        *published.PRIVACY_COLUMNS,
    )
    parts = [
        paragraph(
            "Top-1 in percent, mean and range over seeds and keys. Action: how the owner of the model does best on",
            "clips of the method, as far as was tried. Identity: the digit. **The paper's attacker** has a model",
            "trained on plain clips and has never seen an encrypted one. **The attacker who adapts** has labelled",
            "clips under the key that he attacks, not the key, and trains his model further on them.",
        ),
        table(head, [_row(findings, method) for method in COMPARED]),
        _chance(findings),
        paragraph(
            "Rows of the paper with * are not its own: it took them from the BDQ paper, and does not say how attackers",
            "were trained there. Its own row was measured with an attacker who never saw an encrypted clip; one who",
            "trains on encrypted clips is not in its tables.",
        ),
        *([_PICTURE] if has_points(findings) else []),
        "### An attacker who starts from nothing",
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
        "for who adapts": (ADAPTIVE, findings.get(Task.IDENTITY, LCVE, ADAPTIVE)),
    }
    texts = [
        f"{NOT_RUN if row is None or row[1] is None else percent(row[1].chance)} {name}" for name, row in rows.items()
    ]
    return paragraph(
        f"Chance, which is to name the most frequent class always, in percent: {', '.join(texts)}.",
        "Rows may be tested on different numbers of held-out clips, so it differs.",
    )


def _free(findings: Findings) -> str:
    plain = findings.get(Task.IDENTITY, PLAIN, Way.FREE)
    encrypted = findings.get(Task.IDENTITY, LCVE, Way.FREE)
    return paragraph(
        "Under one key, LCVE is a fixed permutation of tokens and of the values inside of tokens, and both are",
        "absorbed by weights that are drawn alike at random: positional encodings that are learned, and columns of",
        "the embedding. So whoever trains from random weights on labelled encrypted clips has the same chances, in",
        "distribution, as on plain ones, and LCVE costs him nothing. Measured, identity, same budget: plain",
        f"{cell(plain)}, LCVE {cell(encrypted)}{_gap(plain, encrypted)}.",
    )


def _gap(plain: Found | None, encrypted: Found | None) -> str:
    if plain is None or encrypted is None:
        return ""
    return f"; LCVE minus plain: {100 * (encrypted.mean - plain.mean):+.1f} points"
