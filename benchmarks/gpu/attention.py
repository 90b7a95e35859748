"""What fused attention gains on a GPU: the graph as it is, and with each kernel that ONNX Runtime may choose."""

from __future__ import annotations

from typing import Final
from unittest.mock import patch

from benchmarks.common.bench import Bench
from benchmarks.common.devices import median_seconds
from benchmarks.gpu.backends import bound_run
from benchmarks.gpu.case import many_clips
from lcve_deploy import PlainClip, SessionOptions, open_session
from lcve_deploy.files.inside import Buffer
from lcve_deploy.runtime.backends import onnxruntime as backend
from lcve_deploy.runtime.backends.attention import fuse_attention
from lcve_deploy.runtime.session import Session

__all__ = ["attention_kernels"]

_KERNELS: Final = {
    "standard operators": None,
    "one operator, as by default": "",
    "cuDNN": "8",
    "flash attention": "1",
    "memory-efficient attention": "2",
}
"""Values of the provider's option ``sdpa_kernel``. If a kernel does not have the type, ONNX Runtime uses another."""


def attention_kernels(bench: Bench, engine: str, batches: tuple[int, ...], device: str) -> dict[str, dict[str, float]]:
    """Milliseconds of a batch that is on the GPU, by kernel and batch."""
    clips = {batch: bench.client.encrypt(PlainClip(values=many_clips(bench, batch))) for batch in batches}
    found = {}
    for name, kernel in _KERNELS.items():
        session = _open(bench, engine, kernel)
        runs = {str(batch): bound_run(session, clip, device) for batch, clip in clips.items()}
        found[name] = {batch: 1e3 * median_seconds(run, device) for batch, run in runs.items()}
    return found


def _open(bench: Bench, engine: str, kernel: str | None) -> Session:
    """Open the engine with a kernel. Its record says the provider's options, so this one goes past it."""
    options = backend._provider_options

    def with_kernel(given: SessionOptions) -> dict[str, str]:
        return options(given) | ({"sdpa_kernel": kernel} if kernel else {})

    def unchanged(graph: Buffer) -> bytes:
        return bytes(graph)

    with (
        patch.object(backend, "_provider_options", with_kernel),
        patch.object(backend, "fuse_attention", unchanged if kernel is None else fuse_attention),
    ):
        return open_session(bench.server, SessionOptions(engine=engine))
