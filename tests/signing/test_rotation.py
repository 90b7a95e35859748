"""Rotation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import (
    RotateOptions,
    SecurityKey,
    apply_delta,
    rotate,
    rotate_delta,
    verify_server,
)
from lcve_deploy.artifact.delta import DELTA, read_delta
from lcve_deploy.artifact.digests import SIGNATURE
from lcve_deploy.errors import ArtifactError, SignatureError
from tests.conftest import run_error, run_ok
from tests.support.artifacts import contents
from tests.signing.helpers import OWNER, PIN, STRANGER, forms_of_the_secret


def test_a_rotated_artifact_and_an_applied_delta_are_signed(
    signed: Path, key_file: Path, signing_file: Path, pin_file: Path, tmp_path: Path
) -> None:
    rotation = ("rotate", signed, "--key", key_file, "--salt", "0f" * 16, "--signing-key", signing_file)
    assert "not: pass --signing-key" not in run_ok(*rotation, "-o", tmp_path / "whole")
    run_ok(*rotation, "--delta", "-o", tmp_path / "delta")
    delta = tmp_path / "delta" / DELTA
    shown = json.loads(
        run_ok("apply", signed / "server", delta, "-o", tmp_path / "out", "--signed-by", pin_file, "--json")
    )
    assert shown["signature"] == "ok"
    assert contents(tmp_path / "out") == contents(tmp_path / "whole/server")
    assert verify_server(tmp_path / "out", signed_by=PIN).ok
    assert json.loads(run_ok("inspect", delta, "--json"))["signed"] == "yes, not checked"
    assert json.loads(run_ok("inspect", delta, "--json", "--signed-by", pin_file))["signed"].startswith("yes, by the")
    made = b"".join(b"".join(contents(tmp_path / name).values()) for name in ("out", "whole", "delta"))
    assert not any(form.encode() in made for form in forms_of_the_secret())


@pytest.mark.parametrize("work", [rotate, rotate_delta])
def test_a_rotation_without_a_signing_key_is_unsigned_and_says_so(
    signed: Path, exported: Path, key: SecurityKey, key_file: Path, tmp_path: Path, work: Callable[..., Any]
) -> None:
    result = work(signed, tmp_path / "out", key=key)
    assert any("was signed, and the rotated one is not" in note for note in result.notes)
    assert not any("was signed" in note for note in work(exported, tmp_path / "other", key=key).notes)
    assert not list(tmp_path.glob("out/**/manifest.sig"))
    shown = run_ok("rotate", signed, "--key", key_file, "-o", tmp_path / "again")
    assert "note: the artifact was signed, and the rotated one is not" in shown


def test_without_a_pin_a_delta_brings_its_signature_along(signed: Path, key: SecurityKey, tmp_path: Path) -> None:
    rotate_delta(signed, tmp_path / "delta", key=key, options=RotateOptions(signing_key=OWNER))
    rotate_delta(signed, tmp_path / "unsigned", key=key)
    shown = run_ok("apply", signed / "server", tmp_path / "delta" / DELTA, "-o", tmp_path / "out")
    assert "signature: not checked" in shown
    assert verify_server(tmp_path / "out", signed_by=PIN).ok
    shown = run_ok("apply", signed / "server", tmp_path / "unsigned" / DELTA, "-o", tmp_path / "bare")
    assert "signature" not in shown
    assert not (tmp_path / "bare" / SIGNATURE).exists()


def test_rotating_again_and_again_stays_signed(signed: Path, key: SecurityKey, tmp_path: Path) -> None:
    server = signed / "server"
    for turn in range(2):
        rotated = rotate(signed, tmp_path / f"whole-{turn}", key=key, options=RotateOptions(signing_key=OWNER)).folder
        rotate_delta(rotated, tmp_path / f"delta-{turn}", key=key, options=RotateOptions(signing_key=OWNER))
        delta = tmp_path / f"delta-{turn}" / DELTA
        server = apply_delta(rotated / "server", delta, tmp_path / f"out-{turn}", signed_by=PIN).folder
        signed = rotated
    assert verify_server(server, signed_by=PIN).ok


def _resave(delta: Path, change: Callable[[dict[str, str]], object]) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(delta, framework="numpy") as file:
        said = dict(file.metadata())
    content = load_file(delta)
    change(said)
    delta.unlink()
    save_file(content, delta, said)


WRONG_DELTAS: dict[str, tuple[Callable[[dict[str, str]], object], str]] = {
    "unsigned": (lambda m: m.pop("manifest_signature"), "is not signed, and a key is pinned"),
    "another key": (
        lambda m: m.update(manifest_signature=STRANGER.sign(m["manifest"].encode()).hex()),
        "is invalid",
    ),
    "a changed manifest": (lambda m: m.update(manifest=m["manifest"] + " "), "is invalid"),
    "no manifest": (lambda m: m.update(manifest="{"), "is invalid"),
    "a signature of another manifest": (
        lambda m: m.update(manifest_signature=OWNER.sign(m["manifest"].encode() + b" ").hex()),
        "is invalid",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG_DELTAS.values(), ids=WRONG_DELTAS)
def test_a_delta_that_the_pinned_key_has_not_signed_is_refused(
    signed: Path,
    key: SecurityKey,
    pin_file: Path,
    tmp_path: Path,
    change: Callable[[dict[str, str]], object],
    message: str,
) -> None:
    rotate_delta(signed, tmp_path / "delta", key=key, options=RotateOptions(signing_key=OWNER))
    delta = tmp_path / "delta" / DELTA
    _resave(delta, change)
    with pytest.raises(SignatureError, match=message):
        apply_delta(signed / "server", delta, tmp_path / "out", signed_by=PIN)
    apply = ("apply", signed / "server", delta, "-o", tmp_path / "out")
    assert message in run_error(*apply, "--signed-by", pin_file)
    assert message in run_error("inspect", delta, "--signed-by", pin_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "service"]


@pytest.mark.parametrize("text", ["", "0" * 127, "0" * 130, "z" * 128, "A" * 128, " " + "0" * 127])
def test_a_delta_with_a_damaged_signature_is_refused(signed: Path, key: SecurityKey, tmp_path: Path, text: str) -> None:
    rotate_delta(signed, tmp_path / "delta", key=key, options=RotateOptions(signing_key=OWNER))
    delta = tmp_path / "delta" / DELTA
    assert read_delta(delta, PIN).signature == OWNER.sign(read_delta(delta).manifest_data)
    _resave(delta, lambda m: m.update(manifest_signature=text))
    for pin in (PIN, None):
        with pytest.raises(SignatureError, match="is damaged: expected 128 hex digits"):
            apply_delta(signed / "server", delta, tmp_path / "out", signed_by=pin)
    assert not (tmp_path / "out").exists()


def test_under_a_pin_the_tensors_of_a_delta_are_those_of_the_signed_manifest(
    signed: Path, key: SecurityKey, tmp_path: Path
) -> None:
    """Rows in a third order fit the old ones as well, but not the digest that was signed."""
    from safetensors.numpy import load_file, save_file

    rotate_delta(signed, tmp_path / "delta", key=key, options=RotateOptions(signing_key=OWNER))
    delta = tmp_path / "delta" / DELTA
    whole = read_delta(delta)
    tensors = load_file(delta)
    tensors["positional_encoding"] = np.roll(tensors["positional_encoding"], 1, axis=0)
    metadata: dict[str, str] = {}
    _resave(delta, metadata.update)
    delta.unlink()
    save_file(tensors, delta, metadata)
    assert read_delta(delta, PIN).manifest_data == whole.manifest_data
    with pytest.raises(ArtifactError, match="a different SHA-256"):
        apply_delta(signed / "server", delta, tmp_path / "out", signed_by=PIN)
    assert not (tmp_path / "out").exists()
