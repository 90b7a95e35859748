"""Bad input of the operator."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lcve_deploy import (
    SecurityKey,
    apply_delta,
    rotate,
)
from lcve_deploy.artifact import read_manifest
from lcve_deploy.artifact.keyed import KEYED
from lcve_deploy.errors import ArtifactError, LcveError, MismatchError, ParityError, WriteError
from lcve_deploy.runtime.backends import onnxruntime as backend
from lcve_deploy.verbs import apply as apply_verb
from tests.conftest import ORACLES, heed_interrupts
from tests.rotate.helpers import (
    Breakage,
    change_keyed,
    contents,
    delta_of,
)
from tests.test_artifact import flip_a_byte
from tests.test_export import export_tiny


def _resave(
    delta: Path,
    *,
    tensors: Callable[[dict[str, np.ndarray]], object] = lambda _: None,
    metadata: Callable[[dict[str, str]], object] = lambda _: None,
) -> None:
    from safetensors import safe_open

    with safe_open(delta, framework="numpy") as file:
        said = dict(file.metadata())
    content = load_file(delta)
    tensors(content)
    metadata(said)
    delta.unlink()
    save_file({name: np.asarray(tensor, order="C") for name, tensor in content.items()}, delta, said)


def _of_tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Breakage:
    return lambda delta: _resave(delta, tensors=change)


def _of_metadata(change: Callable[[dict[str, str]], object]) -> Breakage:
    return lambda delta: _resave(delta, metadata=change)


def _of_manifest(change: Callable[[dict[str, Any]], object]) -> Breakage:
    def apply(metadata: dict[str, str]) -> None:
        content = json.loads(metadata["manifest"])
        change(content)
        metadata["manifest"] = json.dumps(content)

    return _of_metadata(apply)


def _swap_with_a_row_of_another(tensors: dict[str, np.ndarray]) -> None:
    tensors["positional_encoding"][3] += 1


def _swap_rows(tensors: dict[str, np.ndarray]) -> None:
    table = tensors["positional_encoding"]
    table[[0, 1]] = table[[1, 0]]


WRONG_DELTAS: dict[str, tuple[Breakage, type[LcveError], str]] = {
    "truncated": (lambda d: os.truncate(d, d.stat().st_size - 100), ArtifactError, "damaged"),
    "truncated in the header": (lambda d: os.truncate(d, 100), ArtifactError, "damaged"),
    "empty": (lambda d: os.truncate(d, 0), ArtifactError, "damaged"),
    "gone": (lambda d: d.unlink(), ArtifactError, "is not a key rotation"),
    "a folder": (lambda d: (d.unlink(), d.mkdir()), ArtifactError, "is not a key rotation"),
    "no delta": (lambda d: (d.unlink(), save_file({"a": np.zeros(1)}, d)), ArtifactError, "is not a key rotation"),
    "another kind": (_of_metadata(lambda m: m.update(kind="clip")), ArtifactError, "is not a key rotation"),
    "no manifest": (_of_metadata(lambda m: m.pop("manifest")), ArtifactError, "is not a key rotation"),
    "a newer format": (_of_metadata(lambda m: m.update(format="2")), ArtifactError, "has format 2, expected 1"),
    "no base": (_of_metadata(lambda m: m.update(base_manifest_sha256="?")), ArtifactError, "which artifact"),
    "no JSON": (_of_metadata(lambda m: m.update(manifest="{")), ArtifactError, "is not JSON"),
    "a manifest that does not hold": (_of_manifest(lambda m: m.pop("salt")), ArtifactError, "salt: missing"),
    "another artifact": (
        _of_metadata(lambda m: m.update(base_manifest_sha256="0" * 64)),
        MismatchError,
        "made for another artifact",
    ),
    "a manifest that changes more": (_of_manifest(lambda m: m.update(opset=19)), ArtifactError, "more than the key"),
    "a manifest with another file": (
        _of_manifest(lambda m: m["files"].update(x=m["files"]["model.onnx"])),
        ArtifactError,
        "more than the key",
    ),
    "a missing tensor": (_of_tensors(lambda t: t.pop("head.bias")), ArtifactError, "head.bias missing"),
    "a tensor too many": (_of_tensors(lambda t: t.update(x=np.zeros(1))), ArtifactError, "x missing"),
    "another shape": (
        _of_tensors(lambda t: t.update({"head.bias": np.zeros(6, np.float32)})),
        ArtifactError,
        "of different shape",
    ),
    "other rows": (_of_tensors(_swap_with_a_row_of_another), ArtifactError, "rows of positional_encoding"),
    "rows swapped": (_of_tensors(_swap_rows), ArtifactError, "a different SHA-256"),
}


@pytest.mark.parametrize(("breakage", "kind", "message"), WRONG_DELTAS.values(), ids=WRONG_DELTAS)
def test_a_delta_that_does_not_hold_is_not_applied(
    exported: Path,
    key: SecurityKey,
    tmp_path: Path,
    breakage: Breakage,
    kind: type[LcveError],
    message: str,
) -> None:
    delta = delta_of(exported, tmp_path / "delta", key)
    breakage(delta)
    before = contents(exported)
    with pytest.raises(kind, match=message):
        apply_delta(exported / "server", delta, tmp_path / "out")
    assert contents(exported) == before
    assert [path.name for path in tmp_path.iterdir()] == ["delta"]


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("readout.index", np.array(64), r"readout\.index is 64, expected a token index below 64"),
        ("readout.index", np.array(-1), r"readout\.index is -1"),
        ("head.bias", np.zeros(5), r"head\.bias is float64 \[5\], expected float32 \[5\]"),
    ],
)
def test_keyed_tensors_that_do_not_fit_the_manifest_take_no_delta(
    key: SecurityKey, tmp_path: Path, name: str, wrong: np.ndarray, message: str
) -> None:
    """Even where all digests hold, and the delta has the same tensors."""
    artifact = export_tiny(tmp_path / "service", key, ORACLES["v1_first_token"])
    delta = delta_of(artifact, tmp_path / "delta", key)
    change_keyed(name, lambda _: wrong)(artifact)
    base = hashlib.sha256((artifact / "server/manifest.json").read_bytes()).hexdigest()
    _resave(delta, tensors=lambda t: t.update({name: wrong}), metadata=lambda m: m.update(base_manifest_sha256=base))
    manifest = json.loads((artifact / "server/manifest.json").read_text())
    _of_manifest(lambda m: m.update(files={**manifest["files"], **_changed(m, manifest)}))(delta)
    with pytest.raises(ArtifactError, match=message):
        apply_delta(artifact / "server", delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _changed(manifest: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Records of the files that a delta changes; sizes as those of the base, as the tensors are of its shapes."""
    return {
        name: {"bytes": base["files"][name]["bytes"], "sha256": manifest["files"][name]["sha256"]}
        for name in (KEYED, "probe.safetensors")
    }


def test_every_rotation_draws_a_salt_of_its_own(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    servers = [exported / "server", *(rotate(exported, tmp_path / name, key=key).folder / "server" for name in "ab")]
    assert len({read_manifest(server).binding.salt for server in servers}) == 3


def test_a_delta_is_for_one_artifact_and_for_once(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    delta = delta_of(exported, tmp_path / "delta", key)
    apply_delta(exported / "server", delta, tmp_path / "applied")
    other = export_tiny(tmp_path / "other", key)
    for server in (tmp_path / "applied", other / "server"):
        with pytest.raises(MismatchError, match="made for another artifact"):
            apply_delta(server, delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [KEYED, "probe.safetensors", "model.onnx"])
def test_a_damaged_server_folder_takes_no_delta(artifact: Path, key: SecurityKey, tmp_path: Path, name: str) -> None:
    delta = delta_of(artifact, tmp_path / "delta", key)
    flip_a_byte(artifact / "server" / name)
    with pytest.raises(ArtifactError, match=f"{name} has a different SHA-256"):
        apply_delta(artifact / "server", delta, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "service"]


def test_a_model_that_answers_the_probe_wrongly_is_not_handed_out(
    exported: Path, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = delta_of(exported, tmp_path / "delta", key)
    run = backend.OnnxRuntimeSession.run
    monkeypatch.setattr(backend.OnnxRuntimeSession, "run", lambda self, clip: run(self, clip) + 0.01)
    with pytest.raises(ParityError, match="fails the probe"):
        apply_delta(exported / "server", delta, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["delta"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_apply_leaves_nothing(
    exported: Path, key: SecurityKey, tmp_path: Path, number: signal.Signals
) -> None:
    delta = delta_of(exported, tmp_path / "delta", key)
    program = (
        "import sys, time\nfrom lcve_deploy.verbs import apply\n"
        "apply._ask = lambda stage: time.sleep(60)\nfrom lcve_deploy.cli import lcve\nlcve()"
    )
    arguments = ["apply", str(exported / "server"), str(delta), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL, preexec_fn=heed_interrupts
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*/manifest.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    assert process.wait(timeout=30) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["delta"]


def test_an_apply_that_fails_halfway_leaves_nothing(
    exported: Path, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = delta_of(exported, tmp_path / "delta", key)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(apply_verb, "_write_changed", fail)
    with pytest.raises(WriteError, match="No space left"):
        apply_delta(exported / "server", delta, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["delta"]
