"""Signing what exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcve_deploy import (
    sign,
)
from lcve_deploy.artifact.digests import MANIFEST, SIGNATURE
from lcve_deploy.errors import ExistsError
from tests.conftest import run_error, run_lcve, run_ok
from tests.signing.helpers import FINGERPRINT, OWNER, Breakage
from tests.support.artifacts import contents, flip_a_byte
from tests.support.artifacts import edit_json as edit


def test_sign_writes_the_same_signature_once(artifact: Path, signing_file: Path, pin_file: Path) -> None:
    server = artifact / "server"
    assert FINGERPRINT in run_ok("sign", server, "--signing-key", signing_file)
    before = contents(artifact)
    assert before["server/manifest.sig"] == OWNER.sign((server / MANIFEST).read_bytes())
    assert before["server/keys/main/key.sig"] == OWNER.sign_key((server / "keys/main/key.json").read_bytes())
    run_ok("sign", server, "--signing-key", signing_file)
    assert contents(artifact) == before
    run_ok("verify", server, "--signed-by", pin_file)


@pytest.mark.parametrize(
    "there",
    [
        lambda path: path.write_bytes(bytes(64)),
        lambda path: path.touch(),
        lambda path: path.write_bytes(bytes(65)),
        lambda path: path.symlink_to("nowhere"),
    ],
    ids=["another", "empty", "longer", "dangling link"],
)
def test_sign_overwrites_no_other_signature(artifact: Path, signing_file: Path, there: Breakage) -> None:
    path = artifact / "server" / SIGNATURE
    there(path)
    result = run_lcve("sign", artifact / "server", "--signing-key", signing_file)
    assert result.exit_code == 1
    assert "already exists: a signature by another key" in result.stderr
    assert f"rm {path}" in result.stderr
    with pytest.raises(ExistsError):
        sign(artifact / "server", signing_key=OWNER)


def test_what_does_not_hold_is_not_signed(artifact: Path, signing_file: Path) -> None:
    flip_a_byte(artifact / "server/model.onnx")
    assert "a different SHA-256" in run_error("sign", artifact / "server", "--signing-key", signing_file)
    edit(artifact / "server/manifest.json", lambda m: m.pop("opset"))
    assert "opset: missing" in run_error("sign", artifact / "server", "--signing-key", signing_file)
    assert "signing-key" in run_error("sign", artifact / "server")
    assert not (artifact / "server" / SIGNATURE).exists()


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda k: flip_a_byte(k / "keyed.safetensors"), "a different SHA-256"),
        (lambda k: edit(k / "key.json", lambda m: m.pop("salt")), "salt: missing"),
        (lambda k: edit(k / "key.json", lambda m: m.update(model_sha256="0" * 64)), "was made for another model"),
        (lambda k: (k / "key.sig").write_bytes(bytes(64)), "already exists: a signature by another key"),
    ],
    ids=["tensors", "manifest", "another model", "signature"],
)
def test_with_a_wrong_key_folder_nothing_is_signed(
    artifact: Path, signing_file: Path, breakage: Breakage, message: str
) -> None:
    breakage(artifact / "server/keys/main")
    before = contents(artifact)
    assert message in run_error("sign", artifact, "--signing-key", signing_file)
    assert contents(artifact) == before
