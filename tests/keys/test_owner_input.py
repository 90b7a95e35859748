"""Bad input of the owner: one clear error, nothing written, the artifact untouched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import RotateOptions, SecurityKey, enroll, rotate
from lcve_deploy.artifact.names import KEY_MANIFEST, KEYED, PROBE
from lcve_deploy.errors import ArtifactError, ExistsError, LcveError, MismatchError, WriteError
from tests.keys.helpers import NEW_KEY, Breakage, change_keyed, main
from tests.support.artifacts import binding_of, contents, edit_json, flip_a_byte

Work = Callable[[Path, Path, SecurityKey], object]


def _rotate(artifact: Path, output: Path, key: SecurityKey, **options: Any) -> object:
    return rotate(artifact, output, key=key, options=RotateOptions(**options))


def _enroll(artifact: Path, output: Path, key: SecurityKey) -> object:
    return enroll(artifact, "camera-7", output, key=key)


def _client(change: Callable[[dict[str, Any]], object]) -> Breakage:
    return lambda artifact: edit_json(artifact / "client/client.json", change)


WRONG_ARTIFACTS: dict[str, tuple[Breakage, type[LcveError], str]] = {
    "no key": (lambda a: shutil.rmtree(main(a)), MismatchError, "has no key folder of the key"),
    "tensors gone": (lambda a: (main(a) / KEYED).unlink(), ArtifactError, "keyed.safetensors is missing"),
    "tensors damaged": (lambda a: flip_a_byte(main(a) / KEYED), ArtifactError, "a different SHA-256"),
    "probe damaged": (lambda a: flip_a_byte(main(a) / PROBE), ArtifactError, "a different SHA-256"),
    "probe truncated": (lambda a: os.truncate(main(a) / PROBE, 99), ArtifactError, "has 99 bytes"),
    "a file too many": (lambda a: (main(a) / "x").touch(), ArtifactError, "x is not listed"),
    "a key manifest that is invalid": (
        lambda a: (main(a) / KEY_MANIFEST).write_text("{}"),
        MismatchError,
        "has no key folder of the key .*; .*key.json is invalid",
    ),
    "no server": (lambda a: shutil.rmtree(a / "server"), ArtifactError, "expected manifest.json"),
    "no client": (lambda a: shutil.rmtree(a / "client"), ArtifactError, "expected client.json"),
    "another manifest": (
        lambda a: edit_json(a / "server/manifest.json", lambda m: m.update(made_by={})),
        MismatchError,
        "was not made with the manifest of",
    ),
    "a key of another model": (
        lambda a: edit_json(main(a) / KEY_MANIFEST, lambda k: k.update(model_sha256="0" * 64)),
        MismatchError,
        "was made for the model with the manifest 0000",
    ),
    "other classes": (
        _client(lambda c: (c["classes"].append("more"), c["output"].update(shape=[None, 6]))),
        MismatchError,
        r"answers logits \[5\] with hidden labels, the client folder expects logits \[6\]",
    ),
    "other labels": (
        _client(lambda c: c.update(labels="shown")),
        MismatchError,
        r"\[5\] with hidden labels, the client folder expects logits \[5\] with shown labels",
    ),
    "short table": (change_keyed("positional_encoding", lambda t: t[1:]), ArtifactError, "do not match the model"),
    "other dtype": (
        change_keyed("head.bias", lambda t: t.astype(np.float64)),
        ArtifactError,
        r"head.bias is float64 \[5\], expected float32 \[5\]",
    ),
}


@pytest.mark.parametrize("work", [_rotate, _enroll])
@pytest.mark.parametrize(("breakage", "kind", "message"), WRONG_ARTIFACTS.values(), ids=WRONG_ARTIFACTS)
def test_no_key_is_made_from_an_artifact_that_does_not_hold(
    artifact: Path,
    key: SecurityKey,
    tmp_path: Path,
    work: Work,
    breakage: Breakage,
    kind: type[LcveError],
    message: str,
) -> None:
    breakage(artifact)
    before = contents(artifact)
    with pytest.raises(kind, match=message):
        work(artifact, tmp_path / "out", key)
    assert contents(artifact) == before
    assert [path.name for path in tmp_path.iterdir()] == ["service"]


@pytest.mark.parametrize("work", [_rotate, _enroll])
def test_a_wrong_key_and_an_output_that_exists(exported: Path, key: SecurityKey, tmp_path: Path, work: Work) -> None:
    with pytest.raises(MismatchError, match="has no key folder of the key"):
        work(exported, tmp_path / "out", NEW_KEY)
    with pytest.raises(ArtifactError, match="expected a folder with server/ and client/"):
        work(exported / "server", tmp_path / "out", key)
    with pytest.raises(WriteError, match="does not exist"):
        work(exported, tmp_path / "a/b", key)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").touch()
    with pytest.raises(ExistsError):
        work(exported, tmp_path / "out", key)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_rotation_is_to_something_new(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    salt = bytes.fromhex(binding_of(exported / "server").salt)
    with pytest.raises(MismatchError, match="expected a new key or a new salt"):
        _rotate(exported, tmp_path / "out", key, salt=salt)
    with pytest.raises(ValueError, match="16 bytes"):
        _rotate(exported, tmp_path / "out", key, salt=b"short")
    assert list(tmp_path.iterdir()) == []
    _rotate(exported, tmp_path / "out", key, salt=salt, new_key=NEW_KEY)
