"""A key folder for another key or salt gives the same answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import (
    Client,
    EncryptedClip,
    Layout,
    RotateOptions,
    SecurityKey,
    open_session,
    rotate,
)
from lcve_deploy.artifact import read_manifest
from lcve_deploy.artifact.names import KEYED, PROBE
from lcve_deploy.errors import MismatchError, UnknownKeyError
from lcve_deploy.verbs.verify import verify
from tests.conftest import ORACLES, SALT, SECRET, Oracle
from tests.keys.helpers import NEW_KEY, NEW_SALT, encrypted, enrolled, main, rotated
from tests.support.artifacts import add_key, binding_of, contents, key_of
from tests.test_export import export_tiny

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mean": ("v1_module_learnable", {}),
    "mean, sinusoid table, video layout": ("v1_model_args", {"layout": Layout.VIDEO}),
    "first cube": ("v1_first_token", {}),
    "first cube, video layout, labels shown": ("v1_first_token", {"layout": Layout.VIDEO, "show_labels": True}),
    "class token": ("hf_vivit", {}),
    "class token, labels shown": ("hf_vivit", {"show_labels": True}),
}
_made: dict[str, Path] = {}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Oracle, Path]:
    """An oracle and an artifact of it, to which tests may add keys."""
    name, options = CASES[request.param]
    if request.param not in _made:
        folder = tmp_path_factory.mktemp("case") / "service"
        _made[request.param] = export_tiny(folder, SecurityKey(SECRET), ORACLES[name], salt=SALT, **options)
    return ORACLES[name], _made[request.param]


def test_three_keys_in_one_batch_have_the_original_implementations_logits(
    case: tuple[Oracle, Path], key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    """The first key, a rotated one and an enrolled one; each answers as the plain model, in its own label order."""
    oracle, artifact = case
    sides = {"main": (artifact / "client", key)}
    out = rotated(artifact, tmp_path / "out", key, new_key=NEW_KEY)
    camera = enrolled(artifact, tmp_path / "camera", key)
    for name, folder, owner in (("new", out, NEW_KEY), ("camera", camera, SecurityKey.read(camera / "key.bin"))):
        add_key(artifact / "server", folder / "server", name)
        sides[name] = (folder / "client", owner)
    session = open_session(artifact / "server")
    pairs = [encrypted(client, owner, clip[None]) for client, owner in sides.values()]
    logits = session.run_batch([clip for _, clip in pairs])
    for (client, alone), row in zip(pairs, logits, strict=True):
        np.testing.assert_allclose(client.plain_order(row[None])[0], oracle.logits, atol=1e-5)
        np.testing.assert_allclose(session.run(alone)[0], row, atol=1e-5)


def test_the_owner_can_verify_a_rotated_key(case: tuple[Oracle, Path], key: SecurityKey, tmp_path: Path) -> None:
    oracle, artifact = case
    out = rotated(artifact, tmp_path / "out", key, new_key=NEW_KEY)
    whole = tmp_path / "whole"
    shutil.copytree(artifact / "server", whole / "server", ignore=shutil.ignore_patterns("keys"))
    shutil.copytree(out / "client", whole / "client")
    add_key(whole / "server", out / "server", "only")
    assert verify(whole, key=NEW_KEY, checkpoint=oracle.path, options=oracle.options).ok


def test_the_rotated_probe_asks_what_the_old_one_asked(
    case: tuple[Oracle, Path], key: SecurityKey, tmp_path: Path
) -> None:
    _, artifact = case
    out = rotated(artifact, tmp_path / "out", key, new_key=NEW_KEY)
    add_key(artifact / "server", out / "server", ".hidden")  # which is no key of the model
    plain = []
    for folder, client_folder, owner in (
        (key_of(artifact / "server"), artifact / "client", key),
        (key_of(artifact / "server", ".hidden"), out / "client", NEW_KEY),
    ):
        client, probe = Client.open(client_folder, owner), folder.probe()
        clip = client.decrypt(EncryptedClip(values=probe.clip, binding=folder.manifest.binding))
        plain.append((clip.values, client.plain_order(probe.logits)))
    np.testing.assert_array_equal(plain[0][0], plain[1][0])
    np.testing.assert_array_equal(plain[0][1], plain[1][1])
    shutil.rmtree(artifact / "server/keys/.hidden")


def test_a_rotation_is_the_export_under_the_new_key(key: SecurityKey, tmp_path: Path) -> None:
    """The keyed tensors are those that an export makes, to the last bit."""
    oracle = ORACLES["v1_first_token"]
    old = export_tiny(tmp_path / "old", key, oracle, salt=SALT)
    new = export_tiny(tmp_path / "new", NEW_KEY, oracle, salt=NEW_SALT)
    out = rotated(old, tmp_path / "out", key, new_key=NEW_KEY, salt=NEW_SALT)
    assert (out / "server" / KEYED).read_bytes() == (main(new) / KEYED).read_bytes()
    assert (old / "server/model.onnx").read_bytes() == (new / "server/model.onnx").read_bytes()


def test_back_to_the_first_key_gives_the_first_files(artifact: Path, key: SecurityKey, tmp_path: Path) -> None:
    salt = bytes.fromhex(binding_of(artifact / "server").salt)
    before = contents(main(artifact))
    there = rotated(artifact, tmp_path / "there", key, new_key=NEW_KEY)
    add_key(artifact / "server", there / "server", "there")
    shutil.rmtree(main(artifact))
    back = rotated(artifact, tmp_path / "back", NEW_KEY, new_key=key, salt=salt)
    after = contents(back / "server")
    assert {name: after[name] for name in (KEYED, PROBE)} == {name: before[name] for name in (KEYED, PROBE)}


def test_the_same_key_gets_a_new_salt(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    results = [rotate(exported, tmp_path / name, key=key) for name in "ab"]
    old = binding_of(exported / "server")
    assert {result.manifest.binding.key_id for result in results} == {old.key_id} == {key.key_id}
    assert len({old.salt, *(result.manifest.binding.salt for result in results)}) == 3


def test_clips_of_a_key_that_was_removed_are_refused(
    artifact: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    out = rotated(artifact, tmp_path / "out", key, new_key=NEW_KEY)
    _, old = encrypted(artifact / "client", key, clip[None])
    _, new = encrypted(out / "client", NEW_KEY, clip[None])
    with pytest.raises(UnknownKeyError, match=NEW_KEY.key_id):
        open_session(artifact / "server").run(new)
    add_key(artifact / "server", out / "server", "new")
    shutil.rmtree(main(artifact))
    session = open_session(artifact / "server")
    assert session.run(new).shape == (1, 5)
    with pytest.raises(UnknownKeyError, match=key.key_id):
        session.run(old)
    with pytest.raises(MismatchError, match="key id"):
        Client.open(out / "client", key)


def test_a_rotation_changes_nothing_of_the_artifact(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    before = contents(exported)
    result = rotate(exported, tmp_path / "out", key=key, options=RotateOptions(new_key=NEW_KEY))
    assert contents(exported) == before
    assert sorted(contents(tmp_path / "out")) == [
        *("client/client.json", "server/key.json", f"server/{KEYED}", f"server/{PROBE}")
    ]
    assert result.manifest.model_sha256 == read_manifest(exported / "server").digest
    assert result.notes == ()
