"""What is attacked, and the truth that scores the attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings

__all__ = ["Case"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """What is attacked, and the truth.

    Args:
        holdings: what the attacker has.
        truth: true orders, and the plain clip of ``victim``; None without the key.
        relation: true orders relative to the other key; None if unknown.
        independent: orders of independent keys.
        victim: encrypted clip to show, ``[N, L]``.
    """

    holdings: Holdings
    truth: Estimate | None = None
    relation: Estimate | None = None
    independent: Sequence[Estimate] = ()
    victim: Cubes | None = None
