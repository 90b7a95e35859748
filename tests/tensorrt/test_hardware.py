"""On hardware. TensorRT-RTX 1.6.1 refused an H200, and TensorRT was not there."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from lcve_deploy import (
    EncryptedClip,
    open_session,
)
from lcve_deploy.artifact import Profile, read_manifest
from lcve_deploy.exporters.tensorrt import (
    PlanOptions,
    build_plan,
)
from lcve_deploy.libraries.tensorrt import (
    TensorRT,
)
from tests import conftest
from tests.tensorrt.helpers import (
    encrypted,
    open_real,
)


@pytest.mark.gpu
def test_gpu_an_engine_answers_as_onnx_runtime_does(
    real: TensorRT, exported: Path, clip: np.ndarray, tmp_path: Path
) -> None:
    import cupy

    server, profile = exported / "server", Profile(minimum=1, optimum=2, maximum=4)
    manifest, reference = read_manifest(server), open_session(server)
    build_plan(
        server / "model.onnx",
        tmp_path / "plan",
        spec=manifest.model,
        library=real,
        options=PlanOptions(profile=profile),
    )
    session = open_real(tmp_path / "plan", server, real, profile)
    for batch in (1, 4, 2):
        clips = encrypted(exported / "server", clip, batch)
        expected = reference.run(clips)
        np.testing.assert_allclose(session.run(clips), expected, atol=1e-4)
        on_device = EncryptedClip(values=cupy.asarray(clips.values), binding=clips.binding)
        np.testing.assert_allclose(session.run(on_device), expected, atol=1e-4)


class MarkedItem:
    """A test with the marker ``gpu``, as pytest hands it to hooks."""

    def get_closest_marker(self, name: str) -> bool:
        return name == "gpu"


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_variable_turns_skipping_without_a_gpu_into_failure(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "find_gpu", lambda: None)
    monkeypatch.setenv("LCVE_REQUIRE_GPU", required)
    with pytest.raises(outcome, match="no NVIDIA GPU"):
        conftest.pytest_runtest_setup(cast(pytest.Item, MarkedItem()))
