"""One target under atheris, in a process of its own: ``python -m fuzz.harness TARGET [libFuzzer's options]``.

Errors of Python are written down and do not end the run; a crash, an input that takes too long, or one that
takes too much memory is libFuzzer's to report, and does.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lcve_deploy", "safetensors", "torch._weights_only_unpickler", "numpy.lib"]):
    import torch._weights_only_unpickler
    import torch.serialization  # noqa: F401

    import lcve_deploy.exporters.checkpoints  # noqa: F401
    from fuzz.targets import TARGETS, run

_SEEN: set[tuple[str, ...]] = set()


def main() -> None:
    """Fuzz until libFuzzer's time is up."""
    name, findings = sys.argv[1], Path(sys.argv[2])
    place = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    mutate = TARGETS[name].mutate

    def one_input(data: bytes) -> None:
        shutil.rmtree(place)
        place.mkdir()
        try:
            run(name, place, data)
        except Exception as error:
            _keep(error, findings, data)

    def custom_mutator(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.2:
            mutated: bytes = atheris.Mutate(data, max_size)
            return mutated
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            data = mutate(data, chance)
        return data[:max_size]

    atheris.Setup([sys.argv[0], *sys.argv[3:]], one_input, custom_mutator=custom_mutator)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _keep(error: Exception, findings: Path, data: bytes) -> None:
    """Write down an error that is not the package's own, once for each place that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "lcve_deploy" in frame.filename]
    mark = (type(error).__name__, *ours[-1:])
    if mark in _SEEN:
        return
    _SEEN.add(mark)
    digest = hashlib.sha256(data).hexdigest()[:12]
    (findings / f"error-{digest}").write_bytes(data)
    (findings / f"error-{digest}.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")


if __name__ == "__main__":
    main()
