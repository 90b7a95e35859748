"""Write the table of attacks in ``docs/evidence/security.md`` from ``benchmarks/results/attacks.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.attacks.wire_page import render_wire
from benchmarks.common.files import DOCS
from benchmarks.common.tables import paragraph, table
from lcve_deploy.attacks.holdings import HELD

PAGE = DOCS / "security.md"
BEGIN, END = "<!-- made by make attacks: begin -->", "<!-- made by make attacks: end -->"
BEGIN_WIRE, END_WIRE = (f"<!-- made by make attacks, lcve-dct-1: {which} -->" for which in ("begin", "end"))
SUBJECTS = {
    "digits": "trained example",
    "videomae": "VideoMAE-B in shape",
    "vit": "real ViT (DINOv2-small)",
    "families": "V-JEPA 2 and BEiT in shape",
}


def render(figures: dict[str, Any]) -> str:
    there = [name for name in SUBJECTS if name in figures]
    rows = {row["name"]: row for name in there for row in figures[name]["attacks"]}
    by_subject = {name: {row["name"]: row for row in figures[name]["attacks"]} for name in there}
    lines = [
        [
            row["title"],
            ", ".join(HELD[need] for need in row["needs"]),
            *(_cell(by_subject[name].get(key)) for name in there),
            _controls([by_subject[name][key] for name in there if key in by_subject[name]]),
        ]
        for key, row in rows.items()
    ]
    stamps = "; ".join(f"{SUBJECTS[name]}: {figures[name]['date']}, {figures[name]['machine']}" for name in there)
    parts = [
        table(["attack", "needs", *(SUBJECTS[name] for name in there), "controls"], lines),
        paragraph(
            "Shares of the entries of an order that are exactly right, and the time of the attack in seconds. *",
            "means up to flips, exchanges of equal axes and the order of channels, followed by the share of",
            "neighbours that are neighbours. Light is the correlation of the means of cubes with the true ones. The",
            "controls are the lowest score of a planted case, and the largest mean score against independent keys.",
        ),
        *(_curves(name, figures[name]) for name in there),
        *([_fine_tuned(figures["digits"]["fine_tuned"])] if "fine_tuned" in figures.get("digits", {}) else []),
        *([_videos(figures["video"]["videos"])] if "video" in figures else []),
        f"<sub>{stamps}</sub>",
    ]
    return "\n\n".join(part for part in parts if part)


def write_table(figures: dict[str, Any]) -> Path:
    text = PAGE.read_text(encoding="utf-8")
    text = _between(text, BEGIN, END, render(figures))
    if "wire" in figures:
        text = _between(text, BEGIN_WIRE, END_WIRE, render_wire(figures["wire"]))
    PAGE.write_text(text, encoding="utf-8")
    return PAGE


def _between(text: str, begin: str, end: str, content: str) -> str:
    before, after = text.split(begin)[0], text.split(end)[1]
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["state"] == "not run":
        return "not run"
    if row["state"] == "not working":
        return "**not working**"
    mark = "*" if row["up_to_symmetry"] else ""
    parts = [
        f"{order} {_percent(found['exact'])}{mark}" + (f" ({_percent(found['neighbours'])})" if mark else "")
        for order, found in row["recovered"].items()
    ]
    if row["similarity"]:
        found = row["similarity"]
        parts.append(f"{found['psnr']:.1f} dB, SSIM {found['ssim']:.2f}, light {found['light']:.2f}")
    return f"{', '.join(parts) or 'nothing found'}; {row['seconds']:.1f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _controls(rows: list[dict[str, Any]]) -> str:
    held = [row["control"] for row in rows if row["control"]]
    if not held:
        return ""
    solved = min(score for control in held for score in control["planted"].values())
    chance = max((score for control in held for score in control["chance"].values()), default=0.0)
    return f"{solved:.2f}; {chance:.3f}"


def _curves(name: str, figures: dict[str, Any]) -> str:
    blocks = []
    for row in figures["attacks"]:
        if len(row["curve"]) > 1:
            names = [order for order in row["curve"][0] if order != "level"]
            rows = [[order, *(_percent(point[order]) for point in row["curve"])] for order in names]
            levels = [f"{point['level']:g}" for point in row["curve"]]
            blocks.append(f"{SUBJECTS[name]}: {row['title']}, by {row['axis']}\n\n" + table(["", *levels], rows))
    return "\n\n".join(blocks)


def _videos(videos: dict[str, Any]) -> str:
    rows = []
    for name, report in videos.items():
        cells = {row["name"]: row for row in report["attacks"]}
        rows.append([name, _cell(cells["texture"]), _cell(cells["jigsaw"])])
    text = paragraph(
        "**One encrypted clip of real video and nothing else**, 16×224×224 in cubes of 2×16×16: K2 from its",
        "texture, then K1 as a puzzle. Cubes of a still scene are interchangeable in time, so a clip may be",
        "recognisable even if entries are not exact.",
    )
    return f"{text}\n\n" + table(["clip of", "K2 from texture", "K1 by puzzle, with that K2"], rows)


def _fine_tuned(figures: dict[str, Any]) -> str:
    moved = ", ".join(f"{name} by {share:.0%} of its norm" for name, share in figures["moved"].items())
    shares = ", ".join(f"{order} {_percent(found['exact'])}" for order, found in figures["recovered"].items())
    return paragraph(
        f"A real drift: the trained example, fine-tuned for {figures['steps']} steps at a rate of {figures['rate']:g}",
        f"on half of its classes, moved {moved}. As the reference for the artifact of the model before, it gave",
        f"{shares}.",
    )
