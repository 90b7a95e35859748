"""Without this software."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lcve_deploy import (
    PublicKey,
    SigningKey,
)
from lcve_deploy.artifact.digests import MANIFEST, SIGNATURE
from lcve_deploy.artifact.names import KEY_MANIFEST, KEY_SIGNATURE
from tests.conftest import run_ok
from tests.support.artifacts import edit_json as edit

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def run_openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)


def _openssl_verify(server: Path, pin_file: Path) -> subprocess.CompletedProcess[str]:
    return run_openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", pin_file, "-rawin"),
        *("-in", server / MANIFEST, "-sigfile", server / SIGNATURE),
    )


@openssl
def test_openssl_checks_our_signatures(signed: Path, pin_file: Path) -> None:
    done = _openssl_verify(signed / "server", pin_file)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout
    edit(signed / "server" / MANIFEST, lambda _: None)
    assert _openssl_verify(signed / "server", pin_file).returncode != 0


@openssl
def test_keys_and_signatures_of_openssl_are_ours(artifact: Path, tmp_path: Path) -> None:
    private, public, server = tmp_path / "o.pem", tmp_path / "o.pub", artifact / "server"
    assert run_openssl("genpkey", "-algorithm", "ed25519", "-out", private).returncode == 0
    assert run_openssl("pkey", "-in", private, "-pubout", "-out", public).returncode == 0
    private.chmod(0o600)
    assert SigningKey.read(private).public_key == PublicKey.read(public)
    assert SigningKey.read(private).to_bytes() == private.read_bytes()
    assert PublicKey.read(public).to_bytes() == public.read_bytes()
    key = server / "keys/main"
    for manifest, signature in ((server / MANIFEST, server / SIGNATURE), (key / KEY_MANIFEST, key / KEY_SIGNATURE)):
        made = ("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", manifest, "-out", signature)
        assert run_openssl(*made).returncode == 0
    run_ok("verify", server, "--signed-by", public)
    run_ok("sign", server, "--signing-key", private)  # the same bytes
