"""Boundaries."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lcve_deploy import SecurityKey, sign
from lcve_deploy.artifact import record_files
from lcve_deploy.artifact.digests import SIGNATURE
from lcve_deploy.artifact.names import KEY_SIGNATURE
from tests.conftest import run_error, run_ok
from tests.keys.helpers import enrolled
from tests.signing.helpers import OWNER
from tests.test_boundaries import OPERATOR, key_rooms_in, loaded_after


def test_the_operators_commands_load_no_cryptography_without_a_pin_and_no_private_key_with_one(
    signed: Path, key: SecurityKey, encrypted: Path, pin_file: Path, tmp_path: Path
) -> None:
    camera = enrolled(signed, tmp_path / "camera-7", key, signing_key=OWNER) / "server"
    server = signed / "server"
    for arguments in (
        ("run", server, encrypted),
        ("verify", server),
        ("inspect", camera),
        ("apply", server, camera),
    ):
        bare = loaded_after(OPERATOR, *arguments)
        assert "cryptography" not in bare
        shutil.rmtree(server / "keys/camera-7", ignore_errors=True)
        pinned = loaded_after(OPERATOR, *arguments, "--signed-by", pin_file)
        assert "cryptography" in pinned
        for modules in (bare, pinned):
            assert not key_rooms_in(modules) - {"lcve_deploy.verbs", "lcve_deploy.exporters"}
            assert not modules & {"torch", "transformers", "av", "lcve_deploy.verbs.sign", "lcve_deploy.verbs.rotate"}


def test_the_light_client_can_check_a_signature_without_an_engine() -> None:
    code = "from lcve_deploy import PublicKey, check_signature; PublicKey(raw=bytes(32)).verifies(b'', bytes(64))"
    modules = loaded_after(code)
    assert "cryptography" in modules
    assert not key_rooms_in(modules)
    assert not modules & {"onnxruntime", "lcve_deploy.runtime", "torch"}


def test_the_contract_names_the_package_of_the_private_key() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    contracts = {c["name"]: c for c in project["tool"]["importlinter"]["contracts"]}
    contract = contracts["Code that runs on the server, exports or attacks cannot reach a key"]
    assert "lcve_deploy.keys" in contract["forbidden_modules"]
    assert {"lcve_deploy.runtime", "lcve_deploy.artifact", "lcve_deploy.exporters"} <= set(contract["source_modules"])


@pytest.mark.parametrize("command", ["sign", "build", "enroll", "rotate", "convert", "apply"])
def test_the_commands_have_help(command: str) -> None:
    assert "Usage:" in run_ok(command, "--help")
    assert command in run_ok("--help")


def test_signing_changes_no_other_byte(artifact: Path) -> None:
    before = record_files(artifact)
    sign(artifact / "server", signing_key=OWNER)
    after = record_files(artifact)
    assert set(after) - set(before) == {f"server/{SIGNATURE}", f"server/keys/main/{KEY_SIGNATURE}"}
    assert {name: after[name] for name in before} == before


def test_under_a_pin_inspect_refuses_a_changed_file(artifact: Path, tmp_path: Path) -> None:
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    run_ok("sign", artifact / "server", "--signing-key", tmp_path / "signing.pem")
    run_ok("inspect", artifact / "server", "--signed-by", tmp_path / "signing.pub")
    with (artifact / "server/model.onnx").open("ab") as file:
        file.write(b"x")
    error = run_error("inspect", artifact / "server", "--signed-by", tmp_path / "signing.pub")
    assert "model.onnx has" in error
