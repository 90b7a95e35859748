"""Fuzzes every target in turn: ``python -m fuzz [--seconds N] [--only TARGET]``; ``make fuzz``.

New inputs go to ``fuzz/new/``, which git ignores; findings to ``fuzz/findings/``. Ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.targets import CORPUS, TARGETS

_HERE = Path(__file__).parent
_MEGABYTES = 2048
_SECONDS_AN_INPUT = 10
_MAX_BYTES = 65536


def main() -> int:
    """Fuzz; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", choices=TARGETS, nargs="+", default=list(TARGETS))
    given = parser.parse_args()
    found = [line for name in given.only for line in fuzz(name, given.seconds)]
    print("\n".join(["findings:", *found] if found else ["no findings"]))
    return int(bool(found))


def fuzz(name: str, seconds: int) -> list[str]:
    """Fuzz one target.

    Returns:
        A line for each finding.
    """
    new, findings = _HERE / "new" / name, _HERE / "findings" / name
    for folder in (new, findings):
        folder.mkdir(parents=True, exist_ok=True)
    known = set(findings.iterdir())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "fuzz.harness", name, str(findings), str(new), str(CORPUS / name)),
                f"-max_total_time={seconds}",
                f"-rss_limit_mb={_MEGABYTES}",
                f"-timeout={_SECONDS_AN_INPUT}",
                f"-max_len={_MAX_BYTES}",
                f"-artifact_prefix={findings}/",
                "-print_final_stats=1",
            ],
            cwd=_HERE.parent,
            env={**os.environ, "TMPDIR": temporary},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    (_HERE / "new" / f"{name}.log").write_text(ended.stderr, encoding="utf-8")
    print(f"{name}: {_summary(ended.stderr)}", flush=True)
    kept = [str(path) for path in sorted(set(findings.iterdir()) - known) if path.suffix != ".txt"]
    if ended.returncode and not kept:
        kept = [f"{name} ended with {ended.returncode}; see {_HERE / 'new' / name}.log"]
    return kept


def _summary(log: str) -> str:
    """Executions, and how coverage and corpus grew, in libFuzzer's words."""
    states = re.findall(r"#(\d+)\s+(?:INITED|NEW|REDUCE|pulse|DONE|RELOAD)\s+cov: (\d+) ft: (\d+) corp: (\d+)", log)
    if not states:
        return "no execution"
    first, last = states[0], states[-1]
    return f"{last[0]} executions, coverage {first[1]} to {last[1]}, corpus {first[3]} to {last[3]}"


if __name__ == "__main__":
    sys.exit(main())
