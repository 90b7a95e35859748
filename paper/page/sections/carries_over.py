"""The paper's claims beside ours, and the summary made of them."""

from __future__ import annotations

from typing import Final

from paper.findings.claims import CLAIMS, Verdict, judge
from paper.findings.seeds import Findings
from paper.page.markdown import bullets, paragraph, table

__all__ = ["TITLE", "section", "summary"]

TITLE: Final = "Claims of the paper, and what carries over"

_HEADINGS: Final = {Verdict.YES: "Carries over", Verdict.NO: "Does not carry over", Verdict.NOT_RUN: "Not run"}


def section(findings: Findings) -> str:
    """All claims in a table."""
    judged = [judge(claim, findings) for claim in CLAIMS]
    rows = [(row.claim.text, row.claim.paper, row.here, row.claim.rule, f"**{row.verdict}**") for row in judged]
    text = paragraph(
        "Verdicts are computed from the records by the rule in the table. Accuracies are top-1 in percent, means",
        "over seeds and keys. A *no* means that the claim is not confirmed on these data with this model, not that",
        "the paper's figures are wrong.",
    )
    return f"{text}\n\n{table(('claim', 'paper', 'here', 'rule for yes', 'carries over?'), rows)}"


def summary(findings: Findings) -> str:
    """Lists of what carries over, what does not, and what was not run."""
    judged = [judge(claim, findings) for claim in CLAIMS]
    lists = {
        verdict: [
            row.claim.text if verdict is Verdict.NOT_RUN else f"{row.claim.text}: {row.here}."
            for row in judged
            if row.verdict is verdict
        ]
        for verdict in Verdict
    }
    return "\n\n".join(f"**{_HEADINGS[verdict]}**\n\n{bullets(lines)}" for verdict, lines in lists.items() if lines)
