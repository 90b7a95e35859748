"""Cases of a part: what takes turns together, in how many fresh processes, and how often in each."""

from __future__ import annotations

from dataclasses import dataclass

PROCESSES = 5
"""Fresh processes of a comparison: pairs inside one process hide what differs between processes."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison, or one figure.

    Args:
        name: in the results.
        processes: number of fresh processes.
        rounds: number of rounds in each process.
        compares: whether its figures are ratios of times.
        rehearsed: whether a process whose figures are dropped goes first, which makes the files that the others open.
        prefix: command that starts a process, such as ``env NAME=value``.
    """

    name: str
    processes: int = PROCESSES
    rounds: int = 4
    compares: bool = True
    rehearsed: bool = True
    prefix: tuple[str, ...] = ()
