"""``docs/benchmarks.md`` from the figures of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_MANY = 10

PAGE = """# Benchmarks

Made by `make bench` on {date}: {machine}; {versions}.

One full-size VideoMAE-B (16×224×224, cube 2×16×16, {weights:.0f} MB of float32 weights, random); {pairs} interleaved
pairs for each ratio (ten times as many for encryption), medians with quartiles. Ratios carry over to other machines
better than seconds do.

| what | ratio | quartiles | goal |
|---|---|---|---|
{rows}

| what | seen |
|---|---|
{facts}

How to read it:

- *The same graph* is this exporter's graph with unshuffled weights, in the same runtime. *torch.onnx.export* is the
  plain PyTorch model as PyTorch exports it: normalised float video in, convolution as embedding.
- Encryption writes into fresh memory, and so does the copy that it is compared with; the copy into memory that exists
  already is the second comparison. In both, copy and encryption take turns, so neither finds the cache as it left it.
- Memory is the peak of a whole process that exports, less that of one that only imports the libraries (the base).
"""


def write_report(results: dict[str, Any], path: Path) -> None:
    """Write the page."""
    export = results["export"]
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    rows = [
        _row("scrambled graph over the same graph unscrambled", results["scrambled_over_plain"], "≤ 1.02"),
        _row("scrambled graph over a plain torch.onnx.export", results["scrambled_over_traced"], ""),
        _row("encrypting over copying the clip, layout `cubes`", results["encrypt_cubes_over_copy"], "≤ 30"),
        _row("encrypting over copying the clip, layout `video`", results["encrypt_video_over_copy"], ""),
        _row("encrypting over a copy into memory that exists already", results["encrypt_cubes_over_copy_in_place"], ""),
        f"| encrypting over inference | {results['encryption_over_inference']:.2%} | | < 0.3 % |",
        f"| export without parity over a bare torch.onnx.export | {export['export_over_bare']:.2f} | | ≤ 2 |",
        f"| peak memory of the export above the base, over the weights | "
        f"{export['peak_over_weights_above_base']:.2f} | | ≤ 4 |",
        f"| the same of the bare torch.onnx.export | {export['bare_peak_over_weights_above_base']:.2f} | | |",
    ]
    opening = results["opening"]
    facts = {
        "one inference, ONNX Runtime, float32": f"{results['scrambled_over_plain']['second']:.2f} s",
        "encrypting one clip": f"{results['encrypt_cubes_over_copy']['second'] * 1e3:.1f} ms",
        "opening a session, digests checked": f"{opening['open_seconds']:.2f} s",
        "the first answer after that": f"{opening['first_answer_seconds']:.2f} s",
        "export without parity": f"{export['export_seconds']:.1f} s (bare: {export['bare_seconds']:.1f} s)",
        "export with parity on three clips": f"{results['export_with_parity_seconds']:.0f} s",
        "base memory: torch, onnx-ir and this package imported": f"{export['base_bytes'] / 1e6:.0f} MB",
    }
    page = PAGE.format(
        date=results["date"],
        machine=results["machine"],
        versions=versions,
        weights=results["weights_bytes"] / 1e6,
        pairs=results["pairs"],
        rows="\n".join(rows),
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
    )
    path.write_text(page, encoding="utf-8")


def _row(name: str, ratio: dict[str, float], goal: str) -> str:
    digits = 1 if ratio["ratio"] >= _MANY else 3
    numbers = [f"{ratio[part]:.{digits}f}" for part in ("ratio", "low", "high")]
    return f"| {name} | {numbers[0]} | {numbers[1]} to {numbers[2]} | {goal} |"
