"""ExecuTorch with XNNPACK: ``executorch_peer.py PROGRAM.pt2 LOWERED.pte CLIP.npy ANSWER.npy``, in .venv-executorch.

Lowers the exported program once. Then it answers the clip once for every line on standard input, and says so with a
line on standard output.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.exir.passes.constant_prop_pass import constant_prop_pass
from executorch.runtime import Runtime


def lower(program: Path, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    constant = constant_prop_pass(torch.export.load(program))  # a bias that is put together in the graph would be slow
    edge = to_edge_transform_and_lower(constant, partitioner=[XnnpackPartitioner()])
    part.write_bytes(edge.to_executorch().buffer)
    part.rename(target)


def main() -> None:
    program, target, clip, answer = map(Path, sys.argv[1:])
    if not target.exists():
        lower(program, target)
    forward = Runtime.get().load_program(target).load_method("forward")
    inputs = [torch.from_numpy(np.load(clip))]
    print("ready", flush=True)
    for _ in sys.stdin:
        (logits,) = forward.execute(inputs)
        np.save(answer, logits.numpy())
        print("done", flush=True)


if __name__ == "__main__":
    main()
