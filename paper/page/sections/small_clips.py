"""Encrypted clips of few bytes: what they cost, and what they give away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from benchmarks.wire.measuring import at
from paper.experiments.small_clips.attack import TRIED
from paper.experiments.small_clips.measuring import BLOCKS, DCT, H264, LCVE, QUALITY, STEP
from paper.findings.keyspaces import THE_PAPERS, block_preserving_size, dct_size, key_space_sizes
from paper.findings.seeds import NOT_RUN, Findings, spread_of
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "Clips of few bytes"

_DECIBELS: Final = 40
_LOSSLESS: Final = THE_PAPERS.values * THE_PAPERS.cubes
_LCVE_ROW: Final = ("LCVE", "video")
_SECURITY: Final = "security.md"
_PICTURE: Final = (
    "![A frame of a film, plain, under block-preserving encryption and H.264, and as the attack opens it]"
    "(paper-opened.png)\n\nThe same attack on a clip of the film: plain, encrypted and coded, and opened. "
    '"Big Buck Bunny" (c) 2008 Blender\nFoundation, CC BY 3.0.'
)
_METHODS: Final[dict[str, tuple[str, Callable[[], str], str]]] = {
    H264: ("Plain video, H.264", lambda: "-", "everything"),
    LCVE: (
        "LCVE + ViT Scrambling",
        lambda: _lcve_size(),
        f"[two of three real clips opened]({_SECURITY}#attacks-measured)",
    ),
    BLOCKS: (
        "Block-preserving under H.264, scrambled weights",
        lambda: block_preserving_size(THE_PAPERS),
        "all three real clips opened, see the next table",
    ),
    DCT: (
        "`lcve-dct-1` + ViT Scrambling",
        lambda: dct_size(THE_PAPERS),
        f"not tried here, see [security]({_SECURITY}#the-scheme-lcve-dct-1)",
    ),
}
"""Title, key space at the paper's geometry, and what one ciphertext gives."""


def section(findings: Findings) -> str:
    """What ``paper.experiments.small_clips.measuring.measure`` found."""
    found = findings.small_clips
    if found is None:
        return NOT_RUN
    return "\n\n".join((_before(), _compared(found), _below(found), _attacks(found["attacks"]), _after(), _PICTURE))


def _before() -> str:
    return paragraph(
        "An LCVE clip does not compress. A later line of work keeps pictures inside of blocks, so that a video codec",
        "compresses the encrypted clip. The row *block-preserving* is such an encryption as we understand it, and not",
        "that of any one publication: blocks of 16×16 pixels change places, alike in all frames; in every block,",
        "alike in all of them, four sub-blocks of 8×8 change places, are turned or mirrored, and are negated or not,",
        "and the colours change places. Then comes H.264 (x264 medium, 4:4:4). The embedding takes its columns in that",
        "order, negated where a value is, so nothing is trained. [`lcve-dct-1`](../guides/wire.md) is this project's",
        "way to send few bytes: LCVE on quantised DCT coefficients.",
    )


def _compared(found: dict[str, Any]) -> str:
    clips = list(found["rates"])
    head = (
        "method",
        "action, nothing trained, %",
        "predictions as on plain clips",
        "exactness, abs Δlogit",
        "bytes, digits",
        *(f"kB, {clip}" for clip in clips),
        "key space",
        "what one ciphertext gives",
    )
    return table(head, [_row(found, name) for name in _METHODS])


def _row(found: dict[str, Any], name: str) -> tuple[str, ...]:
    title, size, given = _METHODS[name]
    seeds = [seed[name] for seed in found["digits"].values()]
    least = min(seed["agreement"] for seed in seeds)
    return (
        title,
        spread_of([seed["accuracy"] for seed in seeds]),
        f"{100 * least:.1f} %",
        "-" if name == H264 else f"{max(seed['difference'] for seed in seeds):.1g}",
        f"{sum(seed['bytes'] for seed in seeds) / len(seeds):,.0f}",
        *(_kilobytes(rates.get(name)) for rates in found["rates"].values()),
        size(),
        given,
    )


def _kilobytes(points: list[dict[str, float]] | None) -> str:
    """At the PSNR of the table; LCVE is lossless."""
    size = float(_LOSSLESS) if points is None else at(points, _DECIBELS)
    return "-" if size is None else f"{size / 1e3:.3g}" if size < 1e6 else f"{size / 1e3:.0f}"


def _below(found: dict[str, Any]) -> str:
    digits = found["digits"].values()
    plain = spread_of([seed["plain"]["accuracy"] for seed in digits])
    decibels = {name: sum(seed[name]["psnr"] for seed in digits) / len(digits) for name in (H264, BLOCKS, DCT)}
    return paragraph(
        f"Digits: {next(iter(digits))['plain']['clips']} held-out clips of each of {len(digits)} seeds, one key each;",
        f"the plain model on plain clips has {plain}. H.264 at the constant rate factor {QUALITY}:",
        f"{decibels[H264]:.1f} dB on plain clips, {decibels[BLOCKS]:.1f} dB under block-preserving encryption;",
        f"`lcve-dct-1` at step {STEP:g} (`small`): {decibels[DCT]:.1f} dB. These clips carry noise, which bounds all",
        "three. *Predictions as on plain clips*: of the seed with the fewest; what differs is the loss of the codec.",
        "*Exactness*: the largest difference of a logit from the plain model on the decrypted clips; for",
        "block-preserving encryption in float64, for both schemes of LCVE an artifact in ONNX Runtime, float32.",
        f"kB: real videos, one clip of 16×224×224 each at {_DECIBELS} dB, LCVE lossless, as on the page of the [thin",
        "wire](wire.md). Key spaces: as in Table 1. Identities were not tried on small clips.",
    )


def _attacks(attacks: dict[str, Any]) -> str:
    head = (
        "one clip, block-preserving",
        "sub-blocks",
        "puzzle",
        "neighbours right",
        "opened",
        "with the key",
        "control",
    )
    rows = [
        (
            clip,
            f"{row['inner_seconds']:.1f} s",
            f"{row['puzzle_seconds']:.1f} s",
            f"{100 * row['neighbours']:.0f} %",
            *(f"{row[name]:.1f} dB" for name in ("psnr", "with_key", "control")),
        )
        for clip, row in attacks.items()
    ]
    return table(head, rows)


def _after() -> str:
    return paragraph(
        f"The attacker has one encrypted clip of each video, after H.264 at rate factor {QUALITY}, and nothing else.",
        f"The {TRIED:,} ways to put sub-blocks together are tried on all blocks at once, by how well they fit at the",
        "seams; then the solver of `lcve audit` assembles the blocks. PSNR against the plain clip, up to what a viewer",
        "sees at once: turned or mirrored as a whole, negated as a whole, or with colours exchanged. Blocks that look",
        "alike may be exchanged without a loss of PSNR. Control: the same attack on the LCVE ciphertext of the same",
        "clip. Nearly all of the key space are orders of blocks, and a puzzle finds those. What happens inside of a",
        "block must be the same in all of them, since a model has one embedding; so it can be tried on all at once.",
    )


def _lcve_size() -> str:
    return next(size for (method, level), size in key_space_sizes(THE_PAPERS).items() if (method, level) == _LCVE_ROW)
