"""Write the table of variants in ``docs/evidence/security.md`` from ``benchmarks/results/variants.json``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common.files import DOCS
from benchmarks.common.tables import paragraph, table
from benchmarks.variants.trials import NOISE

PAGE = DOCS / "security.md"
BEGIN, END = "<!-- made by make variants: begin -->", "<!-- made by make variants: end -->"
SUBJECTS = ("digits", "vit")

Cell = Callable[[dict[str, Any]], str]


def render(figures: dict[str, Any]) -> str:
    """Return tables and notes in Markdown."""
    there = [figures[name] for name in SUBJECTS if name in figures]
    head = [f"{subject['title']}: {scheme}" for subject in there for scheme in ("this scheme", "strongest variant")]
    rows = [
        [title, *(cell(subject[part]) for subject in there for part, cell in zip(_PARTS, cells, strict=True))]
        for title, *cells in _ROWS
    ]
    weak = [[title, *(show(subject["weaker"]) for subject in there)] for title, show in _WEAKER]
    controls = [
        [attack, f"{planted:.4g}", f"{chance:.2g}"] for attack, (planted, chance) in figures["controls"].items()
    ]
    stamps = "; ".join(f"{subject['title']}: {subject['date']}, {subject['machine']}" for subject in there)
    return "\n\n".join(
        (
            table(["attacker", *head], rows),
            table(["step on the way", *(subject["title"] for subject in there)], weak),
            paragraph(
                "Controls of the attacks on variants: what each reaches of a planted case, and of data with nothing",
                "to find. Shares, or decibels if the name says so.",
            ),
            table(["attack", "planted case", "nothing to find"], controls),
            f"<sub>{stamps}</sub>",
        )
    )


def write_table(figures: dict[str, Any]) -> Path:
    """Replace the part of the page between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{render(figures)}\n\n{END}{after}", encoding="utf-8")
    return PAGE


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _orders(found: dict[str, float] | None) -> str:
    return "not run" if found is None else f"K1 {_share(found['cubes'])}, K2 {_share(found['values'])}"


def _basis(agreement: float | None) -> str:
    return "not run" if agreement is None else f"basis to {agreement:.3f}"


def _sorted(count: int) -> Cell:
    return lambda figures: f"{_share(figures['ciphertexts'][f'sorted_{count}'])} of tokens sorted"


_PARTS = ("this_scheme", "strongest")
_ROWS: tuple[tuple[str, Cell, Cell], ...] = (
    ("size of a clip, in bytes a value", lambda f: "1", lambda f: f"{f['bytes']:.2f}"),
    ("largest difference of what the classifier sees", lambda f: "0", lambda f: f"{f['exact']:.1e}"),
    ("the artifact", lambda f: _orders(f["artifact"]), lambda f: "holds no embedding and no positions"),
    ("1 ciphertext", lambda f: _orders(f["ciphertexts"]["1"]), lambda f: "nothing to compare"),
    ("4 ciphertexts", lambda f: _orders(f["ciphertexts"]["4"]), _sorted(4)),
    ("16 ciphertexts", lambda f: _orders(f["ciphertexts"]["16"]), _sorted(16)),
    (
        "65 ciphertexts",
        lambda f: "not run",
        lambda f: (
            f"{_share(f['ciphertexts']['sorted'])} sorted, {_share(f['ciphertexts']['laid_out'])} in place; "
            f"{_share(f['ciphertexts']['colours'])} of the changes of colours seen"
        ),
    ),
    (
        "65 ciphertexts, and one of the clips",
        lambda f: _orders(f["known"]),
        lambda f: f"{f['ciphertexts']['known']:.1f} dB (from all clips: {f['ciphertexts']['ceiling']:.1f} dB)",
    ),
    (
        "the artifact, and a fine-tuned relative",
        lambda f: _orders(f.get("reference")),
        lambda f: _basis(f.get("reference")),
    ),
    ("two keys of one model", lambda f: f"linked: {_orders(f['linked'])}", lambda f: _basis(f["linked"])),
)
_WEAKER: tuple[tuple[str, Cell], ...] = (
    (
        "values of a cube in a secret rotation; one known clip opens another",
        lambda f: "exactly" if f["rotation_known"] > 100 else f"{f['rotation_known']:.1f} dB",
    ),
    (
        f"noise of deviation {NOISE:g} that the embedding does not see, removed from one ciphertext",
        lambda f: f"{f['noise_seen']:.1f} dB with noise, {f['noise_removed']:.1f} dB without",
    ),
)
