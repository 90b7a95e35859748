"""Memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import torch

from lcve_deploy.files import reading as inputs
from tests.fuzz.helpers import (
    ARRAYS,
    ASKING,
    ROOT,
    archive,
    gif,
    png,
    saved,
    text,
    weights,
)

MEASURED = """
import resource, sys
from pathlib import Path
from fuzz.targets import run
import torch, av, lcve_deploy.exporters.checkpoints
folder = Path(sys.argv[1])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for path in sorted(folder.iterdir()):
    place = folder.parent / f"{path.name}.read"
    place.mkdir()
    answer = run(path.name.split("-")[1], place, path.read_bytes())
    print(path.name, type(answer).__name__, peak() - before, flush=True)
"""


def test_what_is_refused_takes_no_memory(tmp_path: Path) -> None:
    """Megabytes on top of those of the libraries; each of these once took gigabytes, or claims as much."""
    lists = b'{"files": [' + b"[]," * (inputs.MAX_JSON_BYTES // 3 - 10) + b"0]}"
    bomb = archive(text("a" * (64 * 2**20)), compress=zipfile.ZIP_DEFLATED)
    expanded = saved({**weights(), "head.bias": torch.zeros(1).expand(4 * 10**8)})
    cases = {
        "1-checkpoint-bytes": (archive(ASKING["bytes without end"]), 100),
        "1-checkpoint-scalar": (archive(ASKING["a scalar without end"]), 100),
        "1-checkpoint-deflated": (bomb, 100),
        "1-checkpoint-expanded": (expanded, 100),
        "2-video-png": (png(16000, 5000), 300),
        "2-video-gif": (gif(16000, 16000), 300),
        "3-logits-claim": (ARRAYS["more than memory"], 300),
        "3-clip-claim": (struct.pack("<Q", 10**11) + b"{}", 300),
        "4-manifest-lists": (lists, 700),
    }
    (tmp_path / "inputs").mkdir()
    for name, (data, _) in cases.items():
        (tmp_path / "inputs" / name).write_bytes(data)
    del bomb, lists
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "inputs")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert len(lines) == len(cases)
    for name, answer, megabytes in lines:
        assert answer.endswith("Error"), name
        assert int(megabytes) <= cases[name][1], (name, megabytes)
