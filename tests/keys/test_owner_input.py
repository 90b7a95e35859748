"""Bad input of the owner: one clear error, nothing written, the old artifact untouched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lcve_deploy import (
    RotateOptions,
    SecurityKey,
    rotate,
    rotate_delta,
)
from lcve_deploy.artifact import read_manifest
from lcve_deploy.artifact.keyed import KEYED
from lcve_deploy.errors import ArtifactError, ExistsError, LcveError, MismatchError, WriteError
from tests.conftest import ORACLES
from tests.rotate.helpers import (
    NEW_KEY,
    Breakage,
    change_keyed,
    contents,
    sign,
)
from tests.test_artifact import edit, flip_a_byte
from tests.test_export import export_tiny


def _without_keyed(artifact: Path) -> None:
    (artifact / "server" / KEYED).unlink()
    edit(artifact / "server/manifest.json", lambda m: m["files"].pop(KEYED))
    sign(artifact)


WRONG_ARTIFACTS: dict[str, tuple[Breakage, type[LcveError], str]] = {
    "no keyed file": (_without_keyed, ArtifactError, "no keyed.safetensors, so there is nothing to rotate"),
    "keyed file gone": (lambda a: (a / "server" / KEYED).unlink(), ArtifactError, "keyed.safetensors is missing"),
    "keyed file damaged": (lambda a: flip_a_byte(a / "server" / KEYED), ArtifactError, "a different SHA-256"),
    "probe damaged": (lambda a: flip_a_byte(a / "server/probe.safetensors"), ArtifactError, "a different SHA-256"),
    "model truncated": (lambda a: os.truncate(a / "server/model.onnx", 99), ArtifactError, "has 99 bytes"),
    "a file too many": (lambda a: (a / "server/x").touch(), ArtifactError, "x is not listed"),
    "no server": (lambda a: shutil.rmtree(a / "server"), ArtifactError, "expected manifest.json"),
    "no client": (lambda a: shutil.rmtree(a / "client"), ArtifactError, "expected client.json"),
    "another manifest": (
        lambda a: edit(a / "server/manifest.json", lambda m: m.update(made_by={})),
        MismatchError,
        "was not made with the manifest of",
    ),
    "other classes": (
        lambda a: edit(a / "client/client.json", lambda c: c["classes"].append("more")),
        MismatchError,
        "5 classes with hidden labels, the client folder 6",
    ),
    "other labels": (
        lambda a: edit(a / "client/client.json", lambda c: c.update(labels="shown")),
        MismatchError,
        "5 classes with hidden labels, the client folder 5 with shown labels",
    ),
    "other salt": (
        lambda a: edit(a / "client/client.json", lambda c: c.update(salt="0" * 32)),
        MismatchError,
        "does not belong",
    ),
    "short table": (change_keyed("positional_encoding", lambda t: t[1:]), ArtifactError, "do not match the manifest"),
    "other dtype": (
        change_keyed("head.bias", lambda t: t.astype(np.float64)),
        ArtifactError,
        r"head.bias is float64 \[5\], expected float32 \[5\]",
    ),
}


@pytest.mark.parametrize("work", [rotate, rotate_delta])
@pytest.mark.parametrize(("breakage", "kind", "message"), WRONG_ARTIFACTS.values(), ids=WRONG_ARTIFACTS)
def test_an_artifact_that_does_not_hold_is_not_rotated(
    artifact: Path,
    key: SecurityKey,
    tmp_path: Path,
    work: Callable[..., object],
    breakage: Breakage,
    kind: type[LcveError],
    message: str,
) -> None:
    breakage(artifact)
    before = contents(artifact)
    with pytest.raises(kind, match=message):
        work(artifact, tmp_path / "out", key=key)
    assert contents(artifact) == before
    assert [path.name for path in tmp_path.iterdir()] == ["service"]


@pytest.mark.parametrize("work", [rotate, rotate_delta])
def test_a_wrong_key_the_old_salt_and_an_output_that_exists(
    exported: Path, key: SecurityKey, tmp_path: Path, work: Callable[..., object]
) -> None:
    with pytest.raises(MismatchError, match="key id"):
        work(exported, tmp_path / "out", key=NEW_KEY)
    salt = bytes.fromhex(read_manifest(exported / "server").binding.salt)
    with pytest.raises(MismatchError, match="expected a new salt"):
        work(exported, tmp_path / "out", key=key, options=RotateOptions(new_key=NEW_KEY, salt=salt))
    with pytest.raises(ValueError, match="16 bytes"):
        work(exported, tmp_path / "out", key=key, options=RotateOptions(salt=b"short"))
    with pytest.raises(WriteError, match="does not exist"):
        work(exported, tmp_path / "a/b", key=key)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").touch()
    with pytest.raises(ExistsError):
        work(exported, tmp_path / "out", key=key)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_keyed_file_has_the_shapes_of_the_graph(key: SecurityKey, tmp_path: Path) -> None:
    import onnx_ir

    artifact = export_tiny(tmp_path / "service", key, ORACLES["v1_first_token"])
    graph = onnx_ir.load(artifact / "server/model.onnx").graph
    for name, tensor in load_file(artifact / "server" / KEYED).items():
        stored = graph.initializers[name].const_value
        assert stored is not None
        assert (tensor.shape, tensor.dtype) == (stored.shape.numpy(), stored.numpy().dtype)


def test_a_readout_that_is_no_token_is_refused(key: SecurityKey, tmp_path: Path) -> None:
    artifact = export_tiny(tmp_path / "service", key, ORACLES["v1_first_token"])
    change_keyed("readout.index", lambda _: np.array(64))(artifact)
    with pytest.raises(ArtifactError, match=r"readout\.index is 64"):
        rotate(artifact, tmp_path / "out", key=key)
