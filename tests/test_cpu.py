"""What a CPU is called in proofs."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from lcve_deploy.runtime import cpu

X86 = "processor\t: 0\nmodel name\t: Example 9000 : Gold\nflags\t\t: fpu avx512f avx2 sse\nbugs\t\t: avx_vnni\n"
ARM = "processor\t: 0\nFeatures\t: fp asimdhp sve\n"


@pytest.mark.parametrize(
    ("info", "name"),
    [
        (X86, "Example 9000 : Gold (avx2, avx512f)"),
        (X86 + "model name\t: Another\n", "Example 9000 : Gold (avx2, avx512f)"),
        (X86.replace("avx512f avx2 ", ""), "Example 9000 : Gold"),
        (ARM, "a processor (asimdhp, sve)"),
        ("", "a processor"),
        (None, "a processor"),
    ],
)
def test_a_cpu_is_called_by_its_model_and_what_changes_products(
    info: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if info is not None:
        (tmp_path / "cpuinfo").write_text(info)
    monkeypatch.setattr(cpu, "_CPUS", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "a processor")
    monkeypatch.setattr(platform, "machine", lambda: "a machine")
    assert cpu.cpu_name() == name
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert cpu.cpu_name() == name.replace("a processor", "a machine")
