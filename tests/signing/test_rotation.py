"""Keys that are made for a signed artifact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy import EnrollOptions, RotateOptions, SecurityKey, enroll_all, rotate, verify_server
from lcve_deploy.artifact.names import KEY_SIGNATURE
from tests.conftest import run_error, run_ok
from tests.keys.helpers import NEW_KEY, enrolled, rotated
from tests.signing.helpers import OWNER, PIN, forms_of_the_secret
from tests.support.artifacts import contents

Work = Callable[..., Any]


def test_keys_are_made_signed_and_added_under_a_pin(
    signed: Path, key_file: Path, signing_file: Path, pin_file: Path, tmp_path: Path
) -> None:
    more = ("--key", key_file, "--signing-key", signing_file)
    assert "pass --signing-key" not in run_ok("rotate", signed, *more, "-o", tmp_path / "rotated")
    assert "pass --signing-key" not in run_ok("enroll", signed, *more, "--name", "a", "-o", tmp_path / "a")
    pin = ("--signed-by", pin_file)
    said = json.loads(
        run_ok("apply", signed / "server", tmp_path / "rotated/server", tmp_path / "a/server", *pin, "--json")
    )
    assert (said["signature"], [key["name"] for key in said["keys"]]) == ("ok", ["rotated", "a"])
    assert verify_server(signed / "server", signed_by=PIN).ok
    assert json.loads(run_ok("inspect", tmp_path / "a/server", "--json"))["signed"] == "yes, not checked"
    assert json.loads(run_ok("inspect", tmp_path / "a/server", *pin, "--json"))["signed"].startswith("yes, by the")
    keys = json.loads(run_ok("inspect", signed / "server", *pin, "--json"))["keys"]
    assert [(key["name"], key["signed"][:10]) for key in keys] == [
        (name, "yes, by th") for name in ("a", "main", "rotated")
    ]
    made = b"".join(b"".join(contents(tmp_path / name).values()) for name in ("a", "rotated", "service"))
    assert not any(form.encode() in made for form in forms_of_the_secret())


def _rotate(artifact: Path, output: Path, key: SecurityKey, **options: Any) -> tuple[str, ...]:
    return rotate(artifact, output, key=key, options=RotateOptions(**options)).notes


def _enroll(artifact: Path, output: Path, key: SecurityKey, **options: Any) -> tuple[str, ...]:
    return enroll_all(artifact, ["a", "b"], output, key=key, options=EnrollOptions(**options)).notes


@pytest.mark.parametrize("work", [_rotate, _enroll])
def test_a_key_without_a_signing_key_is_unsigned_and_says_so(
    signed: Path, exported: Path, key: SecurityKey, tmp_path: Path, work: Work
) -> None:
    assert any("pass --signing-key" in note for note in work(signed, tmp_path / "out", key))
    assert work(exported, tmp_path / "other", key) == ()
    assert not list(tmp_path.glob(f"out/**/{KEY_SIGNATURE}"))
    assert work(signed, tmp_path / "signed", key, signing_key=OWNER) == ()
    assert list(tmp_path.glob(f"signed/**/{KEY_SIGNATURE}"))


def test_an_unsigned_key_is_signed_later(
    signed: Path, key: SecurityKey, signing_file: Path, pin_file: Path, tmp_path: Path
) -> None:
    camera = enrolled(signed, tmp_path / "camera", key)
    apply = ("apply", signed / "server", camera / "server", "--signed-by", pin_file)
    assert "is not signed, and a key is pinned" in run_error(*apply)
    for folder in (camera, camera / "server"):  # the second time changes nothing
        run_ok("sign", folder, "--signing-key", signing_file)
    assert "camera: ok" in run_ok(*apply)


def test_keys_of_a_rotated_key_stay_signed(signed: Path, key: SecurityKey, pin_file: Path, tmp_path: Path) -> None:
    first = rotated(signed, tmp_path / "first", key, new_key=NEW_KEY, signing_key=OWNER)
    run_ok("apply", signed / "server", first / "server", "--signed-by", pin_file)
    second = rotated(signed, tmp_path / "second", NEW_KEY, signing_key=OWNER)
    run_ok("apply", signed / "server", second / "server", "--replace", "first", "--signed-by", pin_file)
    report = verify_server(signed / "server", signed_by=PIN)
    assert (report.ok, sorted(report.keys)) == (True, ["main", "second"])
