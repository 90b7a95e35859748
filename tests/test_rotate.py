"""Key rotation: the same answers under another key, nothing of the old order, and clear refusals."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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

import lcve_deploy
from lcve_deploy import (
    Client,
    ExportOptions,
    Layout,
    PlainClip,
    SecurityKey,
    SessionOptions,
    apply_delta,
    derive_orders,
    open_session,
    rotate,
    rotate_delta,
    verify_server,
)
from lcve_deploy.artifact import match_rows, read_manifest, read_probe, record_files
from lcve_deploy.artifact.delta import DELTA, read_delta
from lcve_deploy.artifact.keyed import KEYED, keyed_places, read_keyed
from lcve_deploy.errors import ArtifactError, ExistsError, LcveError, MismatchError, ParityError, WriteError
from lcve_deploy.runtime.backends import onnxruntime as backend
from lcve_deploy.verbs import apply as apply_verb
from lcve_deploy.verbs.verify import verify

from .conftest import GEOMETRY, ORACLES, SALT, SECRET, Oracle, heed_interrupts, run_error, run_ok
from .test_artifact import edit, flip_a_byte
from .test_boundaries import HEAVY, KEY_ROOMS, loaded_after
from .test_export import answers, export_tiny

NEW_KEY = SecurityKey(bytes(range(32, 64)))
NEW_SALT = bytes(range(48, 64))

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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def delta_of(artifact: Path, output: Path, key: SecurityKey, **options: Any) -> Path:
    return rotate_delta(artifact, output, key=key, **options).folder / DELTA


# The same answers


def test_a_rotated_artifact_gives_the_original_implementations_logits(
    case: tuple[Oracle, Path], key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    oracle, artifact = case
    rotate(artifact, tmp_path / "out", key=key, new_key=NEW_KEY)
    np.testing.assert_allclose(answers(tmp_path / "out", NEW_KEY, clip[None])[0], oracle.logits, atol=1e-5)
    assert verify_server(tmp_path / "out/server").ok
    assert verify(tmp_path / "out", key=NEW_KEY, checkpoint=oracle.path, options=oracle.options).ok


def test_an_applied_delta_is_the_rotated_artifact_byte_for_byte(
    case: tuple[Oracle, Path], key: SecurityKey, tmp_path: Path
) -> None:
    _, artifact = case
    rotate(artifact, tmp_path / "whole", key=key, new_key=NEW_KEY, salt=NEW_SALT)
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
    rotate(artifact, tmp_path / "out", key=key, new_key=NEW_KEY)
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
    rotate(old, tmp_path / "out", key=key, new_key=NEW_KEY, salt=NEW_SALT)
    for name in (KEYED, "model.onnx"):
        assert (tmp_path / "out/server" / name).read_bytes() == (new / "server" / name).read_bytes()


def test_rotating_twice(exported: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    rotate(exported, tmp_path / "once", key=key, new_key=NEW_KEY)
    rotate(tmp_path / "once", tmp_path / "twice", key=NEW_KEY, new_key=key)
    np.testing.assert_allclose(
        answers(tmp_path / "twice", key, clip[None])[0], ORACLES["v1_model_args"].logits, atol=1e-5
    )
    assert verify_server(tmp_path / "twice/server").ok
    first, third = (read_keyed(folder / "server") for folder in (exported, tmp_path / "twice"))
    assert not np.array_equal(first["positional_encoding"], third["positional_encoding"])


def test_back_to_the_first_salt_gives_the_first_keyed_tensors(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    salt = bytes.fromhex(read_manifest(exported / "server").binding.salt)
    rotate(exported, tmp_path / "there", key=key)
    rotate(tmp_path / "there", tmp_path / "back", key=key, salt=salt)
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
    rotate(exported, tmp_path / "out", key=key, new_key=NEW_KEY)
    encrypted = Client.open(exported / "client", key).encrypt(PlainClip(values=clip[None]))
    with pytest.raises(MismatchError, match=r"key id .* salt"):
        open_session(tmp_path / "out/server").run(encrypted)
    with pytest.raises(MismatchError, match="key id"):
        Client.open(tmp_path / "out/client", key)
    shutil.copytree(exported / "client", tmp_path / "mixed/client")
    shutil.copytree(tmp_path / "out/server", tmp_path / "mixed/server")
    with pytest.raises(MismatchError, match="not the one"):
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
    rotate(tmp_path / "old", tmp_path / "whole", key=key, new_key=NEW_KEY, salt=NEW_SALT)
    delta = delta_of(tmp_path / "old", tmp_path / "delta", key, new_key=NEW_KEY, salt=NEW_SALT)
    apply_delta(tmp_path / "old/server", delta, tmp_path / "applied")
    assert contents(tmp_path / "applied") == contents(tmp_path / "whole/server")
    np.testing.assert_allclose(
        answers(tmp_path / "whole", NEW_KEY, clip[None]), answers(tmp_path / "old", key, clip[None]), atol=1e-5
    )


# Nothing of the old order


@pytest.mark.parametrize("name", ["v1_module_learnable", "v1_first_token", "hf_vivit"])
def test_nothing_of_the_old_order_is_left(name: str, key: SecurityKey, tmp_path: Path) -> None:
    old_folder = export_tiny(tmp_path / "old", key, ORACLES[name], salt=SALT)
    rotate(old_folder, tmp_path / "new", key=key, new_key=NEW_KEY, salt=NEW_SALT)
    delta = delta_of(old_folder, tmp_path / "delta", key, new_key=NEW_KEY, salt=NEW_SALT)
    old, places = read_keyed(old_folder / "server"), keyed_places(old_folder / "server" / KEYED)
    before = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    after = derive_orders(NEW_KEY, salt=NEW_SALT, geometry=GEOMETRY)
    prefix = len(old["positional_encoding"]) - GEOMETRY.cubes
    for data in (b"".join(contents(tmp_path / "new").values()), b"".join(contents(tmp_path / "delta").values())):
        # A row and the next, side by side as in the old file.
        for rows, first, second in (
            (old["positional_encoding"][prefix:], before.cube_order, after.cube_order),
            (old["cube_embedding.weight"], before.pixel_order, after.pixel_order),
        ):
            by_chance = int((np.diff(np.argsort(first)[second]) == 1).sum())
            seen = sum(rows[i : i + 2].tobytes() in data for i in range(len(rows) - 1))
            assert seen == by_chance
            assert sum(row.tobytes() in data for row in rows) == len(rows)  # the search itself works
        for tensor in ("cube_embedding.weight", "positional_encoding", "head.weight", "head.bias"):
            assert old[tensor].tobytes() not in data
        for secret in (SALT, SALT.hex().encode(), key.key_id.encode(), bytes.fromhex(key.key_id), SECRET):
            assert secret not in data
        relative = np.argsort(before.cube_order)[after.cube_order]
        for order in (before.cube_order, after.cube_order, relative, np.argsort(relative)):
            for dtype in ("u1", "<u2", "<u4", "<i8"):
                assert order.astype(dtype).tobytes()[:64] not in data
        probe = load_file(old_folder / "server/probe.safetensors")
        assert probe["clip"].tobytes() not in data
        assert probe["logits"].tobytes() not in data
    assert old_folder.is_dir()
    assert set(places) == set(keyed_places(delta))


def test_only_keyed_file_probe_and_manifest_change(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    before = contents(exported)
    rotate(exported, tmp_path / "out", key=key, new_key=NEW_KEY)
    assert contents(exported) == before
    after = contents(tmp_path / "out")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"server/{KEYED}", "server/probe.safetensors", "server/manifest.json", "client/client.json"}
    assert set(after) == set(before)


def test_parity_is_carried_over_and_the_manifest_says_who_rotated(
    exported: Path, key: SecurityKey, tmp_path: Path
) -> None:
    result = rotate(exported, tmp_path / "out", key=key)
    old, new = read_manifest(exported / "server"), read_manifest(tmp_path / "out/server")
    assert new.parity == old.parity
    assert dict(new.made_by) == {**old.made_by, "lcve-deploy/rotate": old.made_by["lcve-deploy"]}
    assert new.files == record_files_but_manifest(tmp_path / "out/server")
    assert any("parity" in note for note in result.notes)


def record_files_but_manifest(server: Path) -> dict[str, Any]:
    return {name: record for name, record in record_files(server).items() if name != "manifest.json"}


def test_whoever_has_both_artifacts_has_their_relation(key: SecurityKey, tmp_path: Path) -> None:
    """No forward secrecy: without a key, equal rows show how the two orders lie to each other."""
    old = export_tiny(tmp_path / "old", key, ORACLES["v1_first_token"], salt=SALT)
    rotate(old, tmp_path / "new", key=key, new_key=NEW_KEY, salt=NEW_SALT)
    relation = match_rows(read_keyed(old / "server"), read_keyed(tmp_path / "new/server"), cubes=GEOMETRY.cubes)
    before = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=5)
    after = derive_orders(NEW_KEY, salt=NEW_SALT, geometry=GEOMETRY, classes=5)
    np.testing.assert_array_equal(before.cube_order[relation.cubes], after.cube_order)
    np.testing.assert_array_equal(before.pixel_order[relation.values], after.pixel_order)
    assert before.label_order is not None
    np.testing.assert_array_equal(before.label_order[relation.labels], after.label_order)


# What it needs


def test_the_delta_is_small(key: SecurityKey, tmp_path: Path) -> None:
    for name in ("v1_model_args", "hf_vivit"):
        artifact = export_tiny(tmp_path / name, key, ORACLES[name])
        delta = delta_of(artifact, tmp_path / f"{name}-delta", key)
        keyed = sum(tensor.nbytes for tensor in read_delta(delta).tensors.values())
        assert keyed <= delta.stat().st_size <= keyed + 64 * 2**10


ROTATE_WITHOUT = """
from lcve_deploy import SecurityKey, rotate, rotate_delta
for name in {blocked!r}:
    sys.modules[name] = None
key = SecurityKey.read(sys.argv[1])
rotate(sys.argv[2], sys.argv[3] + "/whole", key=key)
rotate_delta(sys.argv[2], sys.argv[3] + "/delta", key=key)
"""


def test_rotating_needs_no_heavy_library(exported: Path, key_file: Path, tmp_path: Path) -> None:
    blocked = (*HEAVY, "openvino", "click", "array_api_compat")
    program = "import sys\n" + ROTATE_WITHOUT.format(blocked=blocked)
    command = [sys.executable, "-c", program, str(key_file), str(exported), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "whole/server/manifest.json").is_file()
    assert (tmp_path / "delta" / DELTA).is_file()


def test_applying_loads_no_key_room_and_no_torch(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    delta = delta_of(exported, tmp_path / "delta", key)
    code = "from lcve_deploy.cli import lcve\nlcve(sys.argv[1:], standalone_mode=False)"
    modules = loaded_after(code, "apply", exported / "server", delta, "-o", tmp_path / "out")
    rooms = {f"lcve_deploy.{room}" for room in set(KEY_ROOMS) - {"verbs", "exporters"}}
    assert not modules & {*rooms, "lcve_deploy.verbs.rotate", "lcve_deploy.verbs.export", "lcve_deploy.verbs.pairs"}
    assert not modules & {"torch", "transformers", "cryptography", "av", "onnx", "onnx_ir"}


def test_the_delta_leaves_large_unchanged_files_to_the_operator(
    artifact: Path, key: SecurityKey, tmp_path: Path
) -> None:
    flip_a_byte(artifact / "server/model.onnx")
    delta = delta_of(artifact, tmp_path / "delta", key)
    with pytest.raises(ArtifactError, match=r"model\.onnx has another SHA-256"):
        apply_delta(artifact / "server", delta, tmp_path / "out")
    with pytest.raises(ArtifactError, match=r"model\.onnx has another SHA-256"):
        rotate(artifact, tmp_path / "out", key=key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "service"]


def test_engines_are_built_again_and_answer_the_new_probe(
    artifact: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    run_ok("build", artifact / "server", "--engine", "onnxruntime")
    broken = artifact / "server/engines/broken"
    broken.mkdir()
    (broken / "engine.json").write_text("{}")
    (broken / "old.plan").write_bytes(b"the old order")
    for name in ("changed", "foreign"):
        run_ok("build", artifact / "server", "--engine", "onnxruntime", "--name", name)
    (artifact / "server/engines/changed/model.onnx").write_bytes(b"not listed")
    edit(artifact / "server/engines/foreign/engine.json", lambda record: record.update(manifest_sha256="0" * 64))
    whole = rotate(artifact, tmp_path / "whole", key=key)
    delta = delta_of(artifact, tmp_path / "delta", key)
    applied = apply_delta(artifact / "server", delta, tmp_path / "applied")
    for result, server in ((whole, tmp_path / "whole/server"), (applied, tmp_path / "applied")):
        became = {engine.name: engine for engine in result.engines}
        assert set(became) == {"broken", "changed", "foreign", "onnxruntime-fp32"}
        assert [became[name].record for name in ("changed", "foreign")] == [None, None]
        assert "model.onnx is not listed" in became["changed"].reason
        assert "was built from another model" in became["foreign"].reason
        assert became["broken"].record is None
        assert "engine.json does not hold" in became["broken"].reason
        assert [path.name for path in (server / "engines").iterdir()] == ["onnxruntime-fp32"]
        kept = became["onnxruntime-fp32"].record
        assert kept is not None
        assert kept.proof is not None
        assert open_session(server, SessionOptions(engine="onnxruntime-fp32")).model == result.manifest.model
    assert run_ok("apply", artifact / "server", delta, "-o", tmp_path / "b").count("\nengine ") == 3


# Bad input of the owner: one clear error, nothing written, the old artifact untouched

Breakage = Callable[[Path], object]


def _without_keyed(artifact: Path) -> None:
    (artifact / "server" / KEYED).unlink()
    edit(artifact / "server/manifest.json", lambda m: m["files"].pop(KEYED))
    _sign(artifact)


def _sign(artifact: Path) -> None:
    """Make the digests of manifest and client settings hold again."""
    files = {
        name: {"bytes": record.bytes, "sha256": record.sha256}
        for name, record in record_files_but_manifest(artifact / "server").items()
    }
    edit(artifact / "server/manifest.json", lambda m: m.update(files=files))
    digest = hashlib.sha256((artifact / "server/manifest.json").read_bytes()).hexdigest()
    edit(artifact / "client/client.json", lambda c: c.update(manifest_sha256=digest))


def _change_keyed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Breakage:
    def apply(artifact: Path) -> None:
        tensors = load_file(artifact / "server" / KEYED)
        save_file(tensors | {name: np.asarray(change(tensors[name]), order="C")}, artifact / "server" / KEYED)
        _sign(artifact)

    return apply


WRONG_ARTIFACTS: dict[str, tuple[Breakage, type[LcveError], str]] = {
    "no keyed file": (_without_keyed, ArtifactError, "no keyed.safetensors, so there is nothing to rotate"),
    "keyed file gone": (lambda a: (a / "server" / KEYED).unlink(), ArtifactError, "keyed.safetensors is missing"),
    "keyed file damaged": (lambda a: flip_a_byte(a / "server" / KEYED), ArtifactError, "another SHA-256"),
    "probe damaged": (lambda a: flip_a_byte(a / "server/probe.safetensors"), ArtifactError, "another SHA-256"),
    "model truncated": (lambda a: os.truncate(a / "server/model.onnx", 99), ArtifactError, "has 99 bytes"),
    "a file too many": (lambda a: (a / "server/x").touch(), ArtifactError, "x is not listed"),
    "no server": (lambda a: shutil.rmtree(a / "server"), ArtifactError, "expected manifest.json"),
    "no client": (lambda a: shutil.rmtree(a / "client"), ArtifactError, "expected client.json"),
    "another manifest": (
        lambda a: edit(a / "server/manifest.json", lambda m: m.update(made_by={})),
        MismatchError,
        "not the one",
    ),
    "other classes": (
        lambda a: edit(a / "client/client.json", lambda c: c["classes"].append("more")),
        MismatchError,
        "5 classes, hidden, the client 6",
    ),
    "other labels": (
        lambda a: edit(a / "client/client.json", lambda c: c.update(labels="shown")),
        MismatchError,
        "5 classes, hidden, the client 5, shown",
    ),
    "other salt": (
        lambda a: edit(a / "client/client.json", lambda c: c.update(salt="0" * 32)),
        MismatchError,
        "does not belong",
    ),
    "short table": (_change_keyed("positional_encoding", lambda t: t[1:]), ArtifactError, "do not fit the manifest"),
    "other dtype": (
        _change_keyed("head.bias", lambda t: t.astype(np.float64)),
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
    with pytest.raises(MismatchError, match="takes a new salt"):
        work(exported, tmp_path / "out", key=key, new_key=NEW_KEY, salt=salt)
    with pytest.raises(ValueError, match="16 bytes"):
        work(exported, tmp_path / "out", key=key, salt=b"short")
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
    _change_keyed("readout.index", lambda _: np.array(64))(artifact)
    with pytest.raises(ArtifactError, match=r"readout\.index is 64"):
        rotate(artifact, tmp_path / "out", key=key)


# Bad input of the operator


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
    "truncated": (lambda d: os.truncate(d, d.stat().st_size - 100), ArtifactError, "or a damaged one"),
    "truncated in the header": (lambda d: os.truncate(d, 100), ArtifactError, "or a damaged one"),
    "empty": (lambda d: os.truncate(d, 0), ArtifactError, "or a damaged one"),
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
        "of another shape",
    ),
    "other rows": (_of_tensors(_swap_with_a_row_of_another), ArtifactError, "rows of positional_encoding"),
    "rows swapped": (_of_tensors(_swap_rows), ArtifactError, "another SHA-256"),
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
        ("readout.index", np.array(64), r"readout\.index is 64, expected a token of 64"),
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
    _change_keyed(name, lambda _: wrong)(artifact)
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
    with pytest.raises(ArtifactError, match=f"{name} has another SHA-256"):
        apply_delta(artifact / "server", delta, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "service"]


def test_a_model_that_answers_the_probe_wrongly_is_not_handed_out(
    exported: Path, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = delta_of(exported, tmp_path / "delta", key)
    run = backend.OnnxRuntimeSession.run
    monkeypatch.setattr(backend.OnnxRuntimeSession, "run", lambda self, clip: run(self, clip) + 0.01)
    with pytest.raises(ParityError, match="wrongly"):
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


# The commands


def test_the_commands_from_key_to_prediction(
    artifact: Path, key_file: Path, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "clip.npy", clip)
    NEW_KEY.write(tmp_path / "new.bin")
    shown = run_ok("rotate", artifact, "--key", key_file, "--new-key", tmp_path / "new.bin", "--salt", NEW_SALT.hex())
    assert f"key id {NEW_KEY.key_id}, salt {NEW_SALT.hex()}" in shown
    assert "note: the parity figures are those of the export" in shown
    whole = artifact.with_name("service-rotated")
    run_ok("run", whole, tmp_path / "clip.npy", "--key", tmp_path / "new.bin", "--logits-out", tmp_path / "a.npy")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), ORACLES["v1_model_args"].logits, atol=1e-5)

    said = json.loads(run_ok("rotate", artifact, "--key", key_file, "--delta", "--json"))
    assert said["key_id"] == SecurityKey(SECRET).key_id
    monkeypatch.chdir(artifact)
    applied = json.loads(run_ok("apply", "server", Path(said["delta"]) / DELTA, "--json"))
    assert applied["probe"]["ok"]
    assert Path(applied["server"]) == artifact / "server-rotated"
    assert json.loads(run_ok("inspect", "server-rotated", "--json"))["salt"] == said["salt"]
    assert json.loads(run_ok("inspect", Path(said["delta"]) / DELTA, "--json"))["kind"] == "key rotation"
    assert "probe: ok" in run_ok("apply", "server", Path(said["delta"]) / DELTA, "-o", tmp_path / "again")


def test_the_commands_fail_clearly(exported: Path, key_file: Path, tmp_path: Path) -> None:
    NEW_KEY.write(tmp_path / "new.bin")
    out = ("-o", tmp_path / "out")
    assert "key id" in run_error("rotate", exported, "--key", tmp_path / "new.bin", *out)
    assert "32 hex digits" in run_error("rotate", exported, "--key", key_file, "--salt", "12", *out)
    assert "server's side alone" in run_error("rotate", exported / "server", "--key", key_file, *out)
    run_ok("rotate", exported, "--key", key_file, "--delta", "-o", tmp_path / "delta")
    assert "exists" in run_error("rotate", exported, "--key", key_file, "-o", tmp_path / "delta")
    delta = tmp_path / "delta" / DELTA
    assert "exists" in run_error("apply", exported / "server", delta, "-o", tmp_path / "delta")
    assert "expected manifest.json" in run_error("apply", exported, delta, *out)
    assert "not a key rotation" in run_error("apply", exported / "server", tmp_path / "delta", *out)
    assert "not a key rotation" in run_error("apply", exported / "server", key_file, *out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "new.bin"]
