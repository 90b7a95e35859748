"""What it needs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    SecurityKey,
    SessionOptions,
    apply_delta,
    open_session,
    rotate,
)
from lcve_deploy.artifact import read_engine
from lcve_deploy.artifact.delta import DELTA, read_delta
from lcve_deploy.errors import ArtifactError
from tests.conftest import ORACLES, run_ok
from tests.rotate.helpers import (
    delta_of,
)
from tests.support.engines import write_own_engine
from tests.test_artifact import edit, flip_a_byte
from tests.test_boundaries import HEAVY, KEY_ROOMS, loaded_after
from tests.test_export import export_tiny


def test_the_delta_is_small(key: SecurityKey, tmp_path: Path) -> None:
    for name in ("v1_model_args", "hf_vivit"):
        artifact = export_tiny(tmp_path / name, key, ORACLES[name])
        delta = delta_of(artifact, tmp_path / f"{name}-delta", key)
        keyed = sum(tensor.nbytes for tensor in read_delta(delta).tensors.values())
        assert keyed <= delta.stat().st_size <= keyed + 64 * 2**10


ROTATE_WITHOUT = """
from lcve_deploy import SecurityKey, rotate, rotate_delta
for name in {blocked!r}:
    sys.modules[name] = None
key = SecurityKey.read(sys.argv[1])
rotate(sys.argv[2], sys.argv[3] + "/whole", key=key)
rotate_delta(sys.argv[2], sys.argv[3] + "/delta", key=key)
"""


def test_rotating_needs_no_heavy_library(exported: Path, key_file: Path, tmp_path: Path) -> None:
    blocked = (*HEAVY, "openvino", "click", "array_api_compat")
    program = "import sys\n" + ROTATE_WITHOUT.format(blocked=blocked)
    command = [sys.executable, "-c", program, str(key_file), str(exported), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "whole/server/manifest.json").is_file()
    assert (tmp_path / "delta" / DELTA).is_file()


def test_applying_loads_no_key_room_and_no_torch(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    delta = delta_of(exported, tmp_path / "delta", key)
    code = "from lcve_deploy.cli import lcve\nlcve(sys.argv[1:], standalone_mode=False)"
    modules = loaded_after(code, "apply", exported / "server", delta, "-o", tmp_path / "out")
    rooms = {f"lcve_deploy.{room}" for room in set(KEY_ROOMS) - {"verbs", "exporters"}}
    assert not modules & {*rooms, "lcve_deploy.verbs.rotate", "lcve_deploy.verbs.export", "lcve_deploy.verbs.pairs"}
    assert not modules & {"torch", "transformers", "cryptography", "av", "onnx", "onnx_ir"}


def test_the_delta_leaves_large_unchanged_files_to_the_operator(
    artifact: Path, key: SecurityKey, tmp_path: Path
) -> None:
    flip_a_byte(artifact / "server/model.onnx")
    delta = delta_of(artifact, tmp_path / "delta", key)
    with pytest.raises(ArtifactError, match=r"model\.onnx has a different SHA-256"):
        apply_delta(artifact / "server", delta, tmp_path / "out")
    with pytest.raises(ArtifactError, match=r"model\.onnx has a different SHA-256"):
        rotate(artifact, tmp_path / "out", key=key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "service"]


def test_engines_are_built_again_and_answer_the_new_probe(
    artifact: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    run_ok("build", artifact / "server", "--runtime", "onnxruntime")
    broken = artifact / "server/engines/broken"
    broken.mkdir()
    (broken / "engine.json").write_text("{}")
    (broken / "old.plan").write_bytes(b"the old order")
    for name in ("changed", "copied", "foreign"):
        run_ok("build", artifact / "server", "--runtime", "onnxruntime", "--name", name)
    (artifact / "server/engines/changed/model.onnx").write_bytes(b"not listed")
    foreign = read_engine(artifact / "server", "foreign")
    write_own_engine(artifact / "server/engines/foreign", dataclasses.replace(foreign, manifest_sha256="0" * 64))
    edit(artifact / "server/engines/copied/engine.json", lambda record: record.update(mac="0" * 64))
    whole = rotate(artifact, tmp_path / "whole", key=key)
    delta = delta_of(artifact, tmp_path / "delta", key)
    applied = apply_delta(artifact / "server", delta, tmp_path / "applied")
    for result, server in ((whole, tmp_path / "whole/server"), (applied, tmp_path / "applied")):
        became = {engine.name: engine for engine in result.engines}
        assert set(became) == {"broken", "changed", "copied", "foreign", "onnxruntime-fp32"}
        assert [became[name].record for name in ("changed", "copied", "foreign")] == [None, None, None]
        assert "was not made on this machine" in became["copied"].reason
        assert "model.onnx is not listed" in became["changed"].reason
        assert "was built from another model" in became["foreign"].reason
        assert became["broken"].record is None
        assert "engine.json is invalid" in became["broken"].reason
        assert [path.name for path in (server / "engines").iterdir()] == ["onnxruntime-fp32"]
        kept = became["onnxruntime-fp32"].record
        assert kept is not None
        assert kept.proof is not None
        assert open_session(server, SessionOptions(engine="onnxruntime-fp32")).model == result.manifest.model
    assert run_ok("apply", artifact / "server", delta, "-o", tmp_path / "b").count("\nengine ") == 4
