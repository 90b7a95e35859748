"""One export in a process of its own: ``ours``, or a ``bare`` torch.onnx.export; prints time and peak memory.

    python benchmarks/exporting.py ours CHECKPOINT FOLDER
    python benchmarks/exporting.py bare - FOLDER
    python benchmarks/exporting.py idle - FOLDER      imports what exporting needs, and does nothing

The time is that of the export alone, from the checkpoint or the module in memory to the finished
file; the peak memory is the whole process's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from measure import seconds


def ours(checkpoint: Path, folder: Path) -> float:
    from lcve_deploy import SecurityKey, derive_orders
    from lcve_deploy.cipher.weights import scramble
    from lcve_deploy.clips import Layout
    from lcve_deploy.exporters.checkpoints import load_checkpoint
    from lcve_deploy.exporters.onnx import write_onnx

    key, salt = SecurityKey.create(), bytes(16)

    def export() -> None:
        model = load_checkpoint(checkpoint).model
        orders = derive_orders(key, salt=salt, geometry=model.config.geometry, classes=model.config.classes)
        write_onnx(scramble(model, orders), folder / "model.onnx", layout=Layout.CUBES)

    return seconds(export)


def bare(_: Path, folder: Path) -> float:
    from models import BASE, videomae
    from plain import export_plain

    module = videomae(BASE)
    return seconds(lambda: export_plain(module, BASE, folder / "model.onnx"))


def idle(_: Path, __: Path) -> float:
    import onnx_ir  # noqa: F401
    import torch  # noqa: F401

    import lcve_deploy.verbs.export  # noqa: F401

    return 0.0


def peak_bytes() -> int:
    """Peak resident memory of this process (Linux); ``ru_maxrss`` would count the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    work = {"ours": ours, "bare": bare, "idle": idle}[sys.argv[1]]
    took = work(Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"seconds": took, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
