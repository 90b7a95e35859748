from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch

import lcve_deploy
from lcve_deploy import (
    CheckpointOptions,
    Client,
    EncryptedClip,
    ExportOptions,
    Layout,
    SecurityKey,
    SessionOptions,
    derive_orders,
    export,
    open_session,
)
from lcve_deploy.artifact import EngineKind, Probe, find_keys, read_client, read_key_manifest, read_manifest, read_probe
from lcve_deploy.artifact.names import BANK_PREFIX, KEYED
from lcve_deploy.cipher.weights import unscrambled
from lcve_deploy.errors import ArtifactError, ExistsError, ParityError, WriteError
from lcve_deploy.exporters import storage
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.graph import attention
from lcve_deploy.exporters.onnx import OPSETS
from lcve_deploy.exporters.reference.builtin import BuiltinReference, Reference
from lcve_deploy.model.parity import CONTROL_MARGIN, CONTROLS, ParityReport
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime import Session
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from lcve_deploy.verbs import export as export_verb
from lcve_deploy.verbs._comparing import measure_parity
from lcve_deploy.verbs.build import BuildOptions
from lcve_deploy.verbs.fastest import EngineChoice
from tests.conftest import GEOMETRY, ORACLE, ORACLES, SALT, SECRET, Oracle, run_error, run_ok
from tests.support.artifacts import binding_of, key_of
from tests.support.warm import EXPORTS, WarmProcess

TINY = ORACLES["v1_model_args"]


def export_tiny(output: Path, key: SecurityKey, oracle: Oracle = TINY, **options: Any) -> Path:
    export(oracle.path, output, key=key, options=ExportOptions(checkpoint=oracle.options, **options))
    return output


def answers(artifact: Path, key: SecurityKey, clips: np.ndarray) -> np.ndarray:
    from lcve_deploy import PlainClip

    client = Client.open(artifact / "client", key)
    return client.plain_order(open_session(artifact / "server").run(client.encrypt(PlainClip(values=clips))))


@pytest.mark.parametrize("oracle", ORACLES.values(), ids=ORACLES)
def test_encrypted_clips_get_the_original_implementations_logits(
    oracle: Oracle, key_file: Path, clip: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "clip.npy", clip)
    run_ok("export", "--key", key_file, "--ckpt", oracle.path, "-o", tmp_path / "out", *oracle.flags)
    run_ok(
        *("run", tmp_path / "out", tmp_path / "clip.npy", "--key", key_file),
        *("--logits-out", tmp_path / "logits.npy"),
    )
    logits = np.load(tmp_path / "logits.npy")
    assert logits.dtype == np.float32
    assert logits.shape == (5,)
    np.testing.assert_allclose(logits, oracle.logits, atol=1e-5)


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("opset", [OPSETS.start, 20, OPSETS.stop - 1])
@pytest.mark.parametrize("name", ["v2_cos", "v1_first_token", "hf_vivit"])
def test_layouts_and_opsets_agree(
    name: str, opset: int, layout: Layout, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    oracle = ORACLES[name]
    artifact = export_tiny(tmp_path / "out", key, oracle, opset=opset, layout=layout)
    np.testing.assert_allclose(answers(artifact, key, clip[None])[0], oracle.logits, atol=1e-5)
    assert read_manifest(artifact / "server").opset == opset


def test_the_batch_is_dynamic(exported: Path, key: SecurityKey, clip: np.ndarray) -> None:
    batch = np.stack([clip, clip[::-1], 255 - clip])
    together = answers(exported, key, batch)
    apart = np.concatenate([answers(exported, key, one[None]) for one in batch])
    np.testing.assert_allclose(together, apart, atol=1e-6)
    assert not np.allclose(together[0], together[1], atol=1e-3)


def test_the_manifest_publishes_parity_with_four_failing_controls(exported: Path) -> None:
    parity = read_manifest(exported / "server").parity
    assert parity.max_difference < 1e-5
    assert parity.top1_agreement == parity.top5_agreement == 1.0
    assert set(parity.controls) == set(CONTROLS)
    assert min(parity.controls.values()) > CONTROL_MARGIN * parity.tolerance


def test_labels_are_hidden_unless_they_are_shown(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    shown = export_tiny(tmp_path / "shown", key, show_labels=True)
    plain = load_checkpoint(TINY.path, TINY.options).model.weights["head.weight"].T
    keys = {path: key_of(path / "server") for path in (shown, exported)}
    weights = {path: folder.tensors()["head.weight"] for path, folder in keys.items()}
    np.testing.assert_array_equal(weights[shown], plain)
    orders = derive_orders(key, salt=_salt(exported), geometry=GEOMETRY, classes=5)
    np.testing.assert_array_equal(weights[exported], plain[:, orders.label_order])
    assert [keys[path].manifest.labels for path in (shown, exported)] == ["shown", "hidden"]


def test_the_probe_is_the_plain_models_answer_to_what_the_ciphertext_decrypts_to(
    exported: Path, key: SecurityKey
) -> None:
    from lcve_deploy.exporters.reference.builtin import BuiltinReference

    folder = key_of(exported / "server")
    probe = folder.probe()
    client = Client.open(exported / "client", key)
    plain = client.decrypt(EncryptedClip(values=probe.clip, binding=folder.manifest.binding))
    expected = BuiltinReference(load_checkpoint(TINY.path, TINY.options).model).logits(plain.values)
    np.testing.assert_allclose(client.plain_order(probe.logits), expected, atol=1e-12)
    assert np.unique(probe.clip).size == 256


def test_the_probe_of_the_model_has_the_same_answer_under_a_key_that_nobody_has(
    exported: Path, key: SecurityKey
) -> None:
    """It is the same plain clip, so an export runs the plain model for one of the two only."""
    server = exported / "server"
    model, first = read_probe(server, read_manifest(server)), key_of(server).probe()
    assert not np.array_equal(model.clip, first.clip)
    np.testing.assert_array_equal(np.sort(model.clip, axis=None), np.sort(first.clip, axis=None))
    np.testing.assert_array_equal(np.sort(model.logits), np.sort(first.logits))
    np.testing.assert_allclose(open_session(server).run_with(model.clip, model.tensors), model.logits, atol=1e-5)


def test_an_export_writes_a_model_one_key_and_its_client(exported: Path) -> None:
    manifest, client = read_manifest(exported / "server"), read_client(exported / "client")
    (name,) = find_keys(exported / "server")
    first = read_key_manifest(exported / "server/keys" / name)
    assert name == "main"
    assert first.model_sha256 == client.manifest_sha256 == manifest.digest
    assert first.binding == client.settings.binding
    assert {path.split("/")[0] for path in manifest.files} == {"model.onnx", "probe.safetensors"}
    text = (exported / "server/manifest.json").read_text()
    assert not any(word in text for word in (first.binding.key_id, first.binding.salt, "labels"))


def test_the_first_key_can_have_another_name(key: SecurityKey, tmp_path: Path) -> None:
    assert list(find_keys(export_tiny(tmp_path / "out", key, key_name="site-a") / "server")) == ["site-a"]
    with pytest.raises(ArtifactError, match="expected a name of 1 to 64"):
        export_tiny(tmp_path / "other", key, key_name="../x")
    assert not (tmp_path / "other").exists()


# What the file gives away


def _initializers(artifact: Path) -> dict[str, onnx_ir.TensorProtocol]:
    graph = onnx_ir.load(artifact / "server/model.onnx").graph
    return {name: value.const_value for name, value in graph.initializers.items() if value.const_value is not None}


def _salt(artifact: Path) -> bytes:
    return bytes.fromhex(binding_of(artifact / "server").salt)


def _server_bytes(artifact: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((artifact / "server").rglob("*")) if path.is_file())


@pytest.mark.parametrize("name", ["v1_module_learnable", "v1_first_token", "hf_vivit"])
def test_no_order_key_or_unshuffled_weight_is_left_in_the_server_folder(
    name: str, key: SecurityKey, tmp_path: Path
) -> None:
    oracle = ORACLES[name]
    data = _server_bytes(export_tiny(tmp_path / "out", key, oracle, salt=SALT))
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=5)
    for order in (orders.cube_order, orders.pixel_order, np.argsort(orders.cube_order), np.argsort(orders.pixel_order)):
        for dtype in ("u1", "<u2", ">u2", "<u4", ">u4", "<i8", ">i8", "<f4"):
            if order.max() < 256 or dtype != "u1":
                assert order.astype(dtype).tobytes()[:64] not in data
        assert ",".join(map(str, order[:8])).encode() not in data
    assert orders.label_order is not None
    for dtype in ("<u4", "<i8"):
        assert orders.label_order.astype(dtype).tobytes() not in data
    assert SECRET not in data
    assert SECRET.hex().encode() not in data
    for info in ("cube-order/8x32x32x3/2x8x8", "pixel-order/8x32x32x3/2x8x8", "label-order/5"):
        assert key.kdf(f"lcve-1/{info}", 32, SALT) not in data


@pytest.mark.parametrize("name", ["v1_module_learnable", "hf_vivit"])
def test_neighbours_of_the_plain_model_are_not_neighbours_in_the_file(
    name: str, key: SecurityKey, tmp_path: Path
) -> None:
    oracle = ORACLES[name]
    artifact = export_tiny(tmp_path / "out", key, oracle, salt=SALT)
    (artifact / "server/probe.safetensors").unlink()  # which has tensors in an order that is random in each export
    data = _server_bytes(artifact)
    model = load_checkpoint(oracle.path, oracle.options).model
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    prefix = model.config.prefix
    plain = unscrambled(model).weights

    # A position row and the next, or an embedding column and the next, side by side as in the plain model.
    for rows, order in (
        (plain["positional_encoding"][prefix:], orders.cube_order),
        (np.ascontiguousarray(plain["cube_embedding.weight"].T), orders.pixel_order),
    ):
        by_chance = int((np.diff(order) == 1).sum())
        seen = sum(rows[i : i + 2].astype("<f4").tobytes() in data for i in range(len(rows) - 1))
        assert seen == by_chance
        assert sum(row.astype("<f4").tobytes() in data for row in rows) == len(rows)  # the search itself works
    unfolded = model.weights["cube_embedding.weight"].astype("<f4")
    assert unfolded[0].tobytes() not in data
    assert np.ascontiguousarray(unfolded.T)[0].tobytes() not in data


def test_only_the_keyed_tensors_depend_on_the_secret(key: SecurityKey, tmp_path: Path) -> None:
    oracle = ORACLES["v1_first_token"]
    owners = {"a": key, "b": SecurityKey(bytes(32))}
    artifacts = [export_tiny(tmp_path / name, owner, oracle, salt=SALT) for name, owner in owners.items()]
    first, second = (key_of(artifact / "server").tensors() for artifact in artifacts)
    assert {name for name in first if np.array_equal(first[name], second[name])} == set()
    bank = [spec.name.removeprefix(BANK_PREFIX) for spec in read_manifest(artifacts[0] / "server").model.bank]
    assert set(first) == set(bank)
    graphs = [(artifact / "server/model.onnx").read_bytes() for artifact in artifacts]
    assert graphs[0] == graphs[1]
    assert not set(_initializers(artifacts[0])) & set(first)


def test_the_graph_names_its_producer(exported: Path) -> None:
    model = onnx.load(exported / "server/model.onnx")
    assert (model.producer_name, model.producer_version) == ("lcve-deploy", lcve_deploy.__version__)


def test_the_graph_names_no_place_person_or_source(exported: Path) -> None:
    model = onnx.load(exported / "server/model.onnx")
    assert model.doc_string == ""
    assert {p.key for p in model.metadata_props} == {"attention_heads"}
    for node in model.graph.node:
        assert not node.doc_string
        assert not node.metadata_props
    data = _server_bytes(exported)
    for word in (str(TINY.path), TINY.path.name, "v1_model_args", str(Path.home()) + "/", "site-packages", ".py"):
        assert word.encode() not in data


def test_the_manifest_names_no_clip_and_no_checkpoint(key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "private-meeting.npy", clip)
    artifact = export_tiny(tmp_path / "out", key, verify_clips=(tmp_path / "private-meeting.npy",))
    text = (artifact / "server/manifest.json").read_text()
    assert "private-meeting" not in text
    assert "v1_model_args" not in text
    assert json.loads(text)["parity"]["clips"] == 1


def test_a_salt_reproduces_the_keyed_tensors_and_another_changes_no_other_file(
    key: SecurityKey, tmp_path: Path
) -> None:
    first, second = (export_tiny(tmp_path / name, key, salt=SALT) for name in "ab")
    third = export_tiny(tmp_path / "c", key)
    assert _salt(third) != SALT
    graphs, keyed = (
        [(artifact / "server" / name).read_bytes() for artifact in (first, second, third)]
        for name in ("model.onnx", f"keys/main/{KEYED}")
    )
    assert graphs[0] == graphs[1] == graphs[2]
    assert keyed[0] == keyed[1] != keyed[2]


def test_every_export_draws_a_salt_of_its_own(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    salts = {_salt(exported), *(_salt(export_tiny(tmp_path / name, key)) for name in "ab")}
    assert len(salts) == 3
    assert {len(salt) for salt in salts} == {16}
    assert all(len(set(salt)) > 4 for salt in salts)  # 2 in 10^15 random salts have so few different bytes


def test_every_export_draws_a_probe_of_its_own(key: SecurityKey, tmp_path: Path) -> None:
    servers = [export_tiny(tmp_path / name, key, salt=SALT) / "server" for name in "ab"]
    clips = [read_probe(server, read_manifest(server)).clip for server in servers]
    assert not np.array_equal(clips[0], clips[1])
    thorough = export_tiny(tmp_path / "thorough", key, salt=SALT, thorough=True) / "server"
    first, second = read_probe(thorough, read_manifest(thorough)).clip
    assert not np.array_equal(first, second)


def test_every_exported_graph_passes_the_checker(exported: Path) -> None:
    model = onnx.load(exported / "server/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    kinds = {init.data_type for init in model.graph.initializer}
    assert onnx.TensorProto.DOUBLE not in kinds


@pytest.mark.parametrize("layout", list(Layout))
def test_bytes_meet_no_node_but_a_cast(key: SecurityKey, tmp_path: Path, layout: Layout) -> None:
    """TensorRT refuses every other node on uint8."""
    graph = onnx.load(export_tiny(tmp_path / "out", key, layout=layout) / "server/model.onnx").graph
    assert [node.op_type for node in graph.node if "clips" in node.input] == ["Cast"]


def test_large_models_have_external_data(
    key: SecurityKey, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "EXTERNAL_DATA_BYTES", 100_000)
    artifact = export_tiny(tmp_path / "out", key)
    assert (artifact / "server/model.onnx.data").stat().st_size > 200_000
    assert (artifact / "server/model.onnx").stat().st_size < 50_000
    assert "model.onnx.data" in read_manifest(artifact / "server").files
    np.testing.assert_allclose(answers(artifact, key, clip[None])[0], TINY.logits, atol=1e-5)


# Whole or not at all


def test_others_can_read_what_the_operator_gets(exported: Path) -> None:
    """Some libraries write files that only their owner can read."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in exported.rglob("*") if path.is_file()}
    assert len(modes) >= 5
    assert set(modes.values()) == {(exported / "server").stat().st_mode & 0o666}


def test_a_failed_parity_leaves_no_artifact(key: SecurityKey, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="logits differ"):
        export_tiny(tmp_path / "out", key, tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_is_wrong_is_not_handed_out(
    key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity compares with code that shares nothing with the graph, so a wrong graph shows."""
    monkeypatch.setattr(attention.SelfAttention, "_scale_queries", lambda self, array: array)
    with pytest.raises(ParityError, match="logits differ"):
        export_tiny(tmp_path / "out", key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("thorough", [False, True])
def test_a_probe_that_the_graph_answers_wrongly_fails_the_export(
    key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thorough: bool
) -> None:
    """Without a key, there is only the probe, so it must have been answered before it is handed out."""
    drawn = export_verb._probe

    def wrong(client: Client, reference: Reference, clip: EncryptedClip) -> Probe:
        probe = drawn(client, reference, clip)
        last = np.arange(len(probe.logits)) == len(probe.logits) - 1
        return dataclasses.replace(probe, logits=probe.logits + 0.01 * last[:, None])

    monkeypatch.setattr(export_verb, "_probe", wrong)
    with pytest.raises(ParityError, match="fails the probe"):
        export_tiny(tmp_path / "out", key, thorough=thorough)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("thorough", "plain", "encrypted"), [(False, 3, 6), (True, 7, 10)])
def test_no_clip_is_run_twice(
    key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thorough: bool, plain: int, encrypted: int
) -> None:
    """By default, the probe is also the noise to compare on, and a real clip is also that of the controls.

    The probe runs under the first key and under that of the model's probe, in one batch.
    """
    ran: dict[str, list[np.ndarray]] = {"plain": [], "encrypted": []}
    logits, run = BuiltinReference.logits, OnnxRuntimeSession._compute

    def run_plain(self: BuiltinReference, clips: np.ndarray) -> np.ndarray:
        ran["plain"].extend(clips)
        return logits(self, clips)

    def run_encrypted(self: OnnxRuntimeSession, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        ran["encrypted"].extend(values)
        return run(self, values, rows)

    monkeypatch.setattr(BuiltinReference, "logits", run_plain)
    monkeypatch.setattr(OnnxRuntimeSession, "_compute", run_encrypted)
    export_tiny(tmp_path / "out", key, thorough=thorough)
    assert {name: len(clips) for name, clips in ran.items()} == {"plain": plain, "encrypted": encrypted}
    assert all(len({clip.tobytes() for clip in clips}) == len(clips) for clips in ran.values())


@pytest.mark.parametrize("tolerance", [None, 1e-3])
def test_the_tolerance_that_is_asked_for_is_the_one_that_is_published(
    key: SecurityKey, tmp_path: Path, tolerance: float | None
) -> None:
    parity = read_manifest(export_tiny(tmp_path / "out", key, tolerance=tolerance) / "server").parity
    assert parity.tolerance == (tolerance or 1e-4 * max(1.0, parity.logit_scale))
    assert parity.control_minimum == 100 * parity.tolerance


class Shifted:
    """A session whose logits are a little off."""

    def __init__(self, session: Session, by: float) -> None:
        self._session, self._by = session, by
        self.model, self.engine, self.device = session.model, session.engine, session.device

    def run(self, clip: EncryptedClip) -> np.ndarray:
        return self._session.run(clip) + np.float32(self._by)


def _engine(budget: float) -> EngineChoice:
    options = BuildOptions(budget=budget)
    return EngineChoice(kinds=(EngineKind.ONNXRUNTIME,), precisions=(Precision.FP32,), options=options)


@pytest.mark.parametrize("budgets", [2.0, 9.0, 100.0])
def test_an_engine_that_differs_by_more_than_its_budget_fails_the_export(
    key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budgets: float
) -> None:
    """It has answered the probe by then, which is noise; real clips are another question."""

    def opened(server: Path, options: SessionOptions) -> Shifted:
        session = open_session(server, options)
        assert session.engine is not None
        proof = session.engine.proof
        assert proof is not None
        return Shifted(session, budgets * proof.budget)

    monkeypatch.setattr(export_verb, "open_session", opened)
    with pytest.raises(ParityError, match="logits differ"):
        export_tiny(tmp_path / "out", key, engine=_engine(0.01))
    assert list(tmp_path.iterdir()) == []


def test_an_engine_is_compared_on_the_clips_of_the_graph_within_its_budget(key: SecurityKey, tmp_path: Path) -> None:
    options = ExportOptions(checkpoint=TINY.options, engine=_engine(0.01))
    result = export(TINY.path, tmp_path / "out", key=key, options=options)
    assert result.engine_parity is not None
    assert result.selection is not None
    assert result.selection.fastest.proof is not None
    assert result.engine_parity.tolerance == result.selection.fastest.proof.budget
    assert result.engine_parity.control_minimum == 3 * result.engine_parity.tolerance
    assert result.engine_parity.clips == result.parity.clips == 2


@pytest.mark.parametrize(("budgets", "fails"), [(2.9, True), (3.1, False)])
def test_the_controls_of_an_engine_must_miss_by_three_budgets(
    key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budgets: float, fails: bool
) -> None:
    measured = measure_parity

    def measure(*arguments: Any, **options: Any) -> ParityReport:
        report = measured(*arguments, **options)
        if options.get("margin") is None:
            return report
        return dataclasses.replace(report, controls=dict.fromkeys(CONTROLS, budgets * report.tolerance))

    monkeypatch.setattr(export_verb, "measure_parity", measure)
    if fails:
        with pytest.raises(ParityError, match=r"a control agrees.*3 tolerances"):
            export_tiny(tmp_path / "out", key, engine=_engine(0.01))
        assert list(tmp_path.iterdir()) == []
    else:
        export_tiny(tmp_path / "out", key, engine=_engine(0.01))


def test_a_control_that_agrees_fails_the_export(key: SecurityKey, tmp_path: Path) -> None:
    """A model that hardly looks at its input would agree with anything."""
    content = torch.load(ORACLES["v2_plain"].path, weights_only=True)
    content["module"]["head.weight"] *= 1e-4
    torch.save(content, tmp_path / "indifferent.pth")
    options = ExportOptions(checkpoint=CheckpointOptions(heads=3, frames=8, size=32))
    with pytest.raises(ParityError, match="a control agrees"):
        export(tmp_path / "indifferent.pth", tmp_path / "out", key=key, options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_an_output_that_exists_is_never_touched(key: SecurityKey, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    makers: dict[str, Callable[[], object]] = {
        "folder": output.mkdir,
        "file": output.touch,
        "dangling link": lambda: output.symlink_to("nowhere"),
    }
    makers[kind]()
    with pytest.raises(ExistsError):
        export_tiny(output, key)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_output_in_a_folder_that_is_not_there(key: SecurityKey, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="does not exist"):
        export_tiny(tmp_path / "a/b", key)


def test_a_read_only_target_is_one_clear_error(key_file: Path) -> None:
    error = run_error("export", "--key", key_file, "--ckpt", TINY.path, "-o", "/proc/out", *TINY.flags)
    assert "cannot write /proc/out" in error


def _arguments(output: Path, key_file: Path) -> list[str]:
    return ["--key", str(key_file), "--ckpt", str(TINY.path), "-o", str(output), *TINY.flags]


def test_a_full_disk_leaves_nothing(key_file: Path, tmp_path: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = subprocess.Popen(
        [Path(sys.executable).with_name("lcve-export"), *_arguments(tmp_path / "out", key_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=little_room,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: cannot write" in errors
    assert "Traceback" not in errors
    assert "this is a bug" not in errors
    assert list(tmp_path.iterdir()) == []


MUCH_TO_COMPARE = ("--verify-clip", str(ORACLE / "clip_8x32x32.npy")) * 1000
_EXPORT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which may be ignored where this was started
from lcve_deploy.cli import export_alone
export_alone()
"""


def _start_long_export(output: Path, key_file: Path) -> WarmProcess:
    arguments = [*_arguments(output, key_file), *MUCH_TO_COMPARE]
    with open(os.devnull, "w") as nowhere:
        return EXPORTS.start(_EXPORT, arguments, stderr=nowhere.fileno(), environment=os.environ)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(number: signal.Signals, key_file: Path, tmp_path: Path) -> None:
    with _start_long_export(tmp_path / "out", key_file) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".out.*/server/model.onnx")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(number)
        assert process.wait(60) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_nothing_under_the_target_name(key_file: Path, tmp_path: Path) -> None:
    with _start_long_export(tmp_path / "out", key_file) as process:
        while not list(tmp_path.glob(".out.*")) and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()


def test_the_output_is_named_after_the_checkpoint(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_ok("export", "--key", key_file, "--ckpt", TINY.path, *TINY.flags)
    assert (tmp_path / "v1_model_args-lcve/server/manifest.json").is_file()
    run_ok("export", "--key", key_file, "--ckpt", ORACLES["hf_videomae"].path)
    assert (tmp_path / "hf_videomae-lcve/client/client.json").is_file()


def test_class_names_are_counted(key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("run\njump\n")
    arguments = ("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", *TINY.flags)
    assert "of the checkpoint, received 2" in run_error(*arguments, "--labels", tmp_path / "names.txt")
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfa\nb\nc\nd\ne\n\n")
    bom = run_ok(*arguments[:6], tmp_path / "bom", *TINY.flags, "--labels", tmp_path / "names.txt")
    assert "parity: ok" in bom
    assert Client.open(tmp_path / "bom/client", SecurityKey(SECRET)).settings.classes == tuple("abcde")
    (tmp_path / "names.json").write_text(json.dumps(list("abcde")))
    run_ok(*arguments, "--labels", tmp_path / "names.json")
    assert Client.open(tmp_path / "out/client", SecurityKey(SECRET)).settings.classes == tuple("abcde")
