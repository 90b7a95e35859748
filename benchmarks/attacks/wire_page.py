"""The table of attacks on the scheme ``lcve-dct-1``."""

from __future__ import annotations

from typing import Any

from benchmarks.common.tables import paragraph, table
from lcve_deploy.attacks.holdings import HELD

__all__ = ["render_wire"]

_SUBJECTS = {
    "digits": "trained example",
    "carphone_pristine": "carphone",
    "bikes": "bikes",
    "bigbuckbunny": "bigbuckbunny",
}


def render_wire(figures: dict[str, Any]) -> str:
    """Return the table, what several clips give, and what lengths say."""
    subjects = figures["subjects"]
    by_name = {name: {row["name"]: row for row in subjects[name]["attacks"]} for name in _SUBJECTS}
    every = (row for name in _SUBJECTS for row in subjects[name]["attacks"])
    rows = {row["name"]: row for row in every if row["state"] != "not run"}
    lines = [
        [
            row["title"],
            ", ".join(HELD[need] for need in row["needs"]),
            *(_cell(by_name[name].get(key)) for name in _SUBJECTS),
            _controls([by_name[name][key] for name in _SUBJECTS if key in by_name[name]]),
        ]
        for key, row in rows.items()
    ]
    parts = [
        table(["attack", "needs", *_SUBJECTS.values(), "controls"], lines),
        paragraph(
            "Of K2 and signs: the share of a clip's energy, without its mean colours, in correct coefficients, and in",
            "parentheses the share of the 40 strongest coefficients that are correct. A sign counts only with its",
            "coefficient. dB and SSIM compare with the clip that the right key gives. * means up to symmetries,",
            "and to negative colours. Of the videos: one clip each, 16×224×224 in cubes of 2×16×16, at the default",
            "step. The controls are as above.",
        ),
        _several(subjects),
        _lengths(figures["lengths"]),
        f"<sub>{figures['date']}, {figures['machine']}</sub>",
    ]
    return "\n\n".join(parts)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["state"] == "not run":
        return "not run"
    if row["state"] == "not working":
        return "**not working**"
    mark = "*" if row["up_to_symmetry"] else ""
    parts = [f"{order} {_share(found)[0]}{mark}{_share(found)[1]}" for order, found in row["recovered"].items()]
    if row["similarity"]:
        parts.append(_similarity(row["similarity"]))
    return f"{', '.join(parts) or 'nothing found'}; {row['seconds']:.1f} s"


def _share(found: dict[str, float]) -> tuple[str, str]:
    if "energy" not in found:
        return _percent(found["exact"]), ""
    return _percent(found["energy"]), f" ({_percent(found['strongest'])})"


def _similarity(found: dict[str, float | None]) -> str:
    if found["psnr"] is None:
        return "the clip"
    return f"{found['psnr']:.1f} dB, SSIM {found['ssim']:.2f}, light {found['light']:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _controls(rows: list[dict[str, Any]]) -> str:
    held = [row["control"] for row in rows if row["control"]]
    if not held:
        return ""
    solved = min(score for control in held for score in control["planted"].values())
    chance = max((score for control in held for score in control["chance"].values()), default=0.0)
    return f"{solved:.2f}; {chance:.3f}"


def _several(subjects: dict[str, Any]) -> str:
    rows = []
    for name, label in _SUBJECTS.items():
        if several := subjects[name].get("several"):
            rows.append([label, str(several["clips"]), _cell(several)])
    return "The seams of several clips of one key:\n\n" + table(["clips of", "number", "coefficients by seams"], rows)


def _lengths(figures: dict[str, Any]) -> str:
    rows = [
        [_SUBJECTS[name], *(f"{size / 1000:.0f}" for size in (min(sizes), sorted(sizes)[len(sizes) // 2], max(sizes)))]
        for name, sizes in figures["bytes"].items()
    ]
    count = len(next(iter(figures["bytes"].values())))
    shares = ", ".join(
        f"{_percent(share)} {'without padding' if pad == '1' else f'with `--pad {pad}`'}"
        for pad, share in figures["same_video"].items()
    )
    text = paragraph(
        f"**The length of a clip**, of {count} clips of each video at the default step. The clip with the nearest",
        f"length is of the same video in {shares} of the cases; by chance, it is in",
        f"{_percent((count - 1) / (len(figures['bytes']) * count - 1))}. The logarithm of the length has a correlation",
        f"of {figures['correlation_with_texture']:.2f} with that of the mean difference between neighbouring pixels.",
    )
    return f"{text}\n\n" + table(["clips of", "smallest, kB", "median", "largest"], rows)
