"""The same answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lcve_deploy
from lcve_deploy import (
    Client,
    ExportOptions,
    Layout,
    PlainClip,
    RotateOptions,
    SecurityKey,
    apply_delta,
    open_session,
    rotate,
    verify_server,
)
from lcve_deploy.artifact import read_manifest, read_probe
from lcve_deploy.artifact.keyed import KEYED, read_keyed
from lcve_deploy.errors import MismatchError
from lcve_deploy.verbs.verify import verify
from tests.conftest import ORACLES, SALT, SECRET, Oracle
from tests.rotate.helpers import (
    NEW_KEY,
    NEW_SALT,
    contents,
    delta_of,
)
from tests.test_export import answers, export_tiny

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
    """An oracle and an artifact of it; the artifact must stay as it is."""
    name, options = CASES[request.param]
    if request.param not in _made:
        folder = tmp_path_factory.mktemp("case") / "service"
        _made[request.param] = export_tiny(folder, SecurityKey(SECRET), ORACLES[name], salt=SALT, **options)
    return ORACLES[name], _made[request.param]


def test_a_rotated_artifact_gives_the_original_implementations_logits(
    case: tuple[Oracle, Path], key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    oracle, artifact = case
    rotate(artifact, tmp_path / "out", key=key, options=RotateOptions(new_key=NEW_KEY))
    np.testing.assert_allclose(answers(tmp_path / "out", NEW_KEY, clip[None])[0], oracle.logits, atol=1e-5)
    assert verify_server(tmp_path / "out/server").ok
    assert verify(tmp_path / "out", key=NEW_KEY, checkpoint=oracle.path, options=oracle.options).ok


def test_an_applied_delta_is_the_rotated_artifact_byte_for_byte(
    case: tuple[Oracle, Path], key: SecurityKey, tmp_path: Path
) -> None:
    _, artifact = case
    rotate(artifact, tmp_path / "whole", key=key, options=RotateOptions(new_key=NEW_KEY, salt=NEW_SALT))
    delta = delta_of(artifact, tmp_path / "delta", key, new_key=NEW_KEY, salt=NEW_SALT)
    result = apply_delta(artifact / "server", delta, tmp_path / "server")
    assert contents(tmp_path / "server") == contents(tmp_path / "whole/server")
    assert contents(tmp_path / "delta/client") == contents(tmp_path / "whole/client")
    assert result.probe.ok
    assert result.manifest == read_manifest(tmp_path / "server")


def test_the_rotated_probe_asks_what_the_old_one_asked(
    case: tuple[Oracle, Path], key: SecurityKey, tmp_path: Path
) -> None:
    _, artifact = case
    rotate(artifact, tmp_path / "out", key=key, options=RotateOptions(new_key=NEW_KEY))
    plain = []
    for folder, owner in ((artifact, key), (tmp_path / "out", NEW_KEY)):
        client, manifest = Client.open(folder / "client", owner), read_manifest(folder / "server")
        probe = read_probe(folder / "server", manifest)
        clip = client.decrypt(lcve_deploy.EncryptedClip(values=probe.clip, binding=manifest.binding))
        plain.append((clip.values, client.plain_order(probe.logits)))
    np.testing.assert_array_equal(plain[0][0], plain[1][0])
    np.testing.assert_array_equal(plain[0][1], plain[1][1])


def test_a_rotation_is_the_export_under_the_new_key(key: SecurityKey, tmp_path: Path) -> None:
    """The keyed tensors are those that an export makes, to the last bit."""
    oracle = ORACLES["v1_first_token"]
    old = export_tiny(tmp_path / "old", key, oracle, salt=SALT)
    new = export_tiny(tmp_path / "new", NEW_KEY, oracle, salt=NEW_SALT)
    rotate(old, tmp_path / "out", key=key, options=RotateOptions(new_key=NEW_KEY, salt=NEW_SALT))
    for name in (KEYED, "model.onnx"):
        assert (tmp_path / "out/server" / name).read_bytes() == (new / "server" / name).read_bytes()


def test_rotating_twice(exported: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    rotate(exported, tmp_path / "once", key=key, options=RotateOptions(new_key=NEW_KEY))
    rotate(tmp_path / "once", tmp_path / "twice", key=NEW_KEY, options=RotateOptions(new_key=key))
    np.testing.assert_allclose(
        answers(tmp_path / "twice", key, clip[None])[0], ORACLES["v1_model_args"].logits, atol=1e-5
    )
    assert verify_server(tmp_path / "twice/server").ok
    first, third = (read_keyed(folder / "server") for folder in (exported, tmp_path / "twice"))
    assert not np.array_equal(first["positional_encoding"], third["positional_encoding"])


def test_back_to_the_first_salt_gives_the_first_keyed_tensors(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    salt = bytes.fromhex(read_manifest(exported / "server").binding.salt)
    rotate(exported, tmp_path / "there", key=key)
    rotate(tmp_path / "there", tmp_path / "back", key=key, options=RotateOptions(salt=salt))
    for name in (KEYED, "probe.safetensors", "model.onnx"):
        assert (tmp_path / "back/server" / name).read_bytes() == (exported / "server" / name).read_bytes()


def test_the_same_key_gets_a_new_salt(exported: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    result = rotate(exported, tmp_path / "out", key=key)
    old, new = read_manifest(exported / "server").binding, result.manifest.binding
    assert new.key_id == old.key_id == key.key_id
    assert new.salt != old.salt
    np.testing.assert_allclose(
        answers(tmp_path / "out", key, clip[None])[0], ORACLES["v1_model_args"].logits, atol=1e-5
    )


def test_old_clips_old_clients_and_old_keys_are_refused(
    exported: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    rotate(exported, tmp_path / "out", key=key, options=RotateOptions(new_key=NEW_KEY))
    encrypted = Client.open(exported / "client", key).encrypt(PlainClip(values=clip[None]))
    with pytest.raises(MismatchError, match=r"key id .* salt"):
        open_session(tmp_path / "out/server").run(encrypted)
    with pytest.raises(MismatchError, match="key id"):
        Client.open(tmp_path / "out/client", key)
    shutil.copytree(exported / "client", tmp_path / "mixed/client")
    shutil.copytree(tmp_path / "out/server", tmp_path / "mixed/server")
    with pytest.raises(MismatchError, match="was not made with the manifest of"):
        rotate(tmp_path / "mixed", tmp_path / "again", key=key)


def test_rows_that_are_equal_do_no_harm(key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    """Any match of equal rows gives the same logits, as long as the token that is read keeps its cube."""
    import torch

    content = torch.load(ORACLES["v1_first_token"].path, weights_only=True)
    state = content.get("model", content.get("module", content))
    state["pos_embed"] = torch.zeros_like(state["pos_embed"]) if "pos_embed" in state else torch.zeros(1, 64, 48)
    state["patch_embed.proj.weight"][:, :, 1] = state["patch_embed.proj.weight"][:, :, 0]
    state["head.weight"][1], state["head.bias"][1] = state["head.weight"][0], state["head.bias"][0]
    torch.save(content, tmp_path / "equal.pth")
    options = ExportOptions(checkpoint=ORACLES["v1_first_token"].options)
    lcve_deploy.export(tmp_path / "equal.pth", tmp_path / "old", key=key, options=options)
    table = read_keyed(tmp_path / "old/server")["positional_encoding"]
    assert len(np.unique(table, axis=0)) == 1
    rotate(tmp_path / "old", tmp_path / "whole", key=key, options=RotateOptions(new_key=NEW_KEY, salt=NEW_SALT))
    delta = delta_of(tmp_path / "old", tmp_path / "delta", key, new_key=NEW_KEY, salt=NEW_SALT)
    apply_delta(tmp_path / "old/server", delta, tmp_path / "applied")
    assert contents(tmp_path / "applied") == contents(tmp_path / "whole/server")
    np.testing.assert_allclose(
        answers(tmp_path / "whole", NEW_KEY, clip[None]), answers(tmp_path / "old", key, clip[None]), atol=1e-5
    )
