"""The commands as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import click
import numpy as np
import pytest

from lcve_deploy import SecurityKey
from lcve_deploy.artifact import EngineKind, EngineRecord
from lcve_deploy.cli import show
from lcve_deploy.cli.main import guarded
from lcve_deploy.cli.verify import _line as verify_line
from lcve_deploy.client import softmax
from lcve_deploy.errors import LcveError
from lcve_deploy.files.secrets import KeyFileWarning
from lcve_deploy.model.parity import ParityReport
from lcve_deploy.model.precision import Precision
from lcve_deploy.verbs.fastest import Candidate, Selection
from lcve_deploy.video import write_video
from tests.conftest import ORACLES, SECRET, run_error, run_lcve, run_ok
from tests.support.artifacts import edit_json, rebind_all

TINY = ORACLES["v1_model_args"]


@pytest.fixture
def clip_file(clip: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "plain.npy", clip)
    return tmp_path / "plain.npy"


@pytest.fixture
def video_file(tmp_path: Path) -> Path:
    frames = (
        np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    )
    write_video(tmp_path / "video.mp4", frames)
    return tmp_path / "video.mp4"


@pytest.fixture
def encrypted(exported: Path, key_file: Path, clip_file: Path, tmp_path: Path) -> Path:
    output = tmp_path / "clip.lcve"
    run_ok("encrypt", clip_file, "--key", key_file, "--client", exported / "client", "-o", output)
    return output


def test_keygen_makes_and_derives_keys(tmp_path: Path) -> None:
    shown = run_ok("keygen", "-o", tmp_path / "master.bin")
    key = SecurityKey.read(tmp_path / "master.bin")
    assert shown == f"{tmp_path / 'master.bin'}: key id {key.key_id}\n"
    run_ok("keygen", "--from", tmp_path / "master.bin", "--name", "camera-7", "-o", tmp_path / "camera.bin")
    assert SecurityKey.read(tmp_path / "camera.bin") == key.derive("camera-7")
    assert "nothing is overwritten" in run_error("keygen", "-o", tmp_path / "master.bin")
    assert "together" in run_error("keygen", "--name", "camera-8", "-o", tmp_path / "x.bin")


def test_encrypt_and_decrypt_lose_nothing(encrypted: Path, key_file: Path, clip: np.ndarray, tmp_path: Path) -> None:
    run_ok("decrypt", encrypted, "--key", key_file, "-o", tmp_path / "back.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), clip)
    for name in ("back.mp4", "back.png"):
        run_ok("decrypt", encrypted, "--key", key_file, "-o", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 100


def test_the_encrypted_clip_does_not_hold_the_plain_one(encrypted: Path, clip: np.ndarray) -> None:
    data = encrypted.read_bytes()
    assert clip[0, 0, :8].tobytes() not in data
    assert SECRET not in data


def test_both_sides_together_and_apart_give_the_same_prediction(
    exported: Path, key_file: Path, encrypted: Path, clip_file: Path, tmp_path: Path
) -> None:
    whole = json.loads(run_ok("run", exported, clip_file, "--key", key_file, "--json", "--top", 2))
    run_ok("run", exported / "server", encrypted, "--logits-out", tmp_path / "logits.npy")
    apart = json.loads(
        run_ok(
            "read", tmp_path / "logits.npy", "--key", key_file, "--client", exported / "client", "--json", "--top", 2
        )
    )
    assert whole["predictions"] == apart["predictions"]
    assert [p["index"] for p in whole["predictions"]] == np.argsort(-TINY.logits)[:2].tolist()
    assert whole["predictions"][0]["probability"] == pytest.approx(softmax(TINY.logits).max(), abs=1e-5)
    again = json.loads(run_ok("run", exported, encrypted, "--key", key_file, "--json", "--top", 2))
    assert again == whole


def test_notes_on_a_video_are_warnings_and_part_of_the_json(exported: Path, key_file: Path, tmp_path: Path) -> None:
    from lcve_deploy.video.write import encode_png

    note, key = "the video has 3 frames, too few for a clip of 8", ("--key", key_file)
    folders = [tmp_path / name for name in ("first", "second")]  # Python shows the same warning once
    for folder in folders:
        folder.mkdir()
        for i in range(3):
            (folder / f"{i}.png").write_bytes(encode_png(np.full((40, 40, 3), 50 * i, np.uint8)))
    encrypt = ("encrypt", folders[1], *key, "--client", exported / "client", "-o")
    for folder, command in zip(
        folders, (("run", exported, folders[0], *key), (*encrypt, tmp_path / "a.lcve")), strict=True
    ):
        shown = run_lcve(*command, "--json")
        assert shown.exit_code == 0
        (said,) = json.loads(shown.stdout)["notes"]
        assert said.startswith(note)
        assert f"warning: {folder}: {note}" in shown.stderr
    run_ok(*encrypt, tmp_path / "b.lcve")
    assert (tmp_path / "a.lcve").read_bytes() == (tmp_path / "b.lcve").read_bytes()
    assert json.loads(run_ok("run", exported, tmp_path / "a.lcve", *key, "--json"))["notes"] == []


def test_the_operator_reads_logits_in_the_artifacts_own_order(
    exported: Path, encrypted: Path, key: SecurityKey
) -> None:
    from lcve_deploy import Client

    answer = json.loads(run_ok("run", exported / "server", encrypted, "--json"))
    assert answer["labels"] == "hidden"
    order = Client.open(exported / "client", key).orders.label_order
    np.testing.assert_allclose(answer["logits"][0], TINY.logits[order], atol=1e-5)
    assert "position" in run_ok("run", exported / "server", encrypted)


def test_views_are_averaged_after_softmax(exported: Path, key_file: Path, video_file: Path, tmp_path: Path) -> None:
    arguments = ("run", exported, video_file, "--key", key_file, "--views", "2x3", "--json", "--top", 5)
    answer = json.loads(run_ok(*arguments, "--logits-out", tmp_path / "logits.npy"))
    logits = np.load(tmp_path / "logits.npy")
    assert logits.shape == (6, 5)
    assert len(np.unique(logits.round(6), axis=0)) > 1
    expected = softmax(logits).mean(axis=0)
    shown = {p["index"]: p["probability"] for p in answer["predictions"]}
    np.testing.assert_allclose([shown[i] for i in range(5)], expected, atol=1e-6)


def test_views_of_a_file_survive_the_trip(exported: Path, key_file: Path, video_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "views.lcve"
    run_ok("encrypt", video_file, "--key", key_file, "--client", exported / "client", "-o", output, "--views", "5x3")
    assert json.loads(run_ok("inspect", output, "--json"))["views"] == "5x3"
    run_ok("run", exported / "server", output, "--logits-out", tmp_path / "logits.npy")
    assert np.load(tmp_path / "logits.npy").shape == (15, 5)
    run_ok("decrypt", output, "--key", key_file, "-o", tmp_path / "views.npy")
    assert np.load(tmp_path / "views.npy").shape == (15, 8, 32, 32, 3)


def test_uniform_sampling_is_an_option(exported: Path, key_file: Path, video_file: Path, tmp_path: Path) -> None:
    for name, more in (("kinetics", ()), ("uniform", ("--sampling", "uniform"))):
        run_ok("run", exported, video_file, "--key", key_file, "--logits-out", tmp_path / f"{name}.npy", *more)
    assert not np.allclose(np.load(tmp_path / "kinetics.npy"), np.load(tmp_path / "uniform.npy"), atol=1e-4)


def test_class_names_cannot_move_the_cursor(artifact: Path, key_file: Path, clip_file: Path) -> None:
    settings = json.loads((artifact / "client/client.json").read_text())
    settings["classes"] = ["\x1b[2Jgone"] * 5
    (artifact / "client/client.json").write_text(json.dumps(settings))
    assert "\x1b" not in run_ok("run", artifact, clip_file, "--key", key_file)
    settings["assumptions"] = [{"fact": "heads", "value": "\x1b[2Jgone", "option": "--num-heads"}]
    (artifact / "client/client.json").write_text(json.dumps(settings))
    assert "\x1b" not in run_ok("inspect", artifact)


MOVES = "\x1b[2J\x9b31m\r\x07\x7f\u202eall is well"
"""What moves a terminal's cursor, rings its bell, or turns the direction of writing."""


@pytest.mark.parametrize("wanted", [(), ("--json",)], ids=["text", "json"])
def test_nothing_of_an_artifact_moves_the_cursor(
    artifact: Path, key_file: Path, clip_file: Path, tmp_path: Path, wanted: tuple[str, ...]
) -> None:
    run_ok("build", artifact / "server", "--runtime", "onnxruntime", "--name", "mine")
    parity = json.loads((artifact / "server/manifest.json").read_text())["parity"]
    for path, change in (
        ("client/client.json", {"classes": [MOVES] * 5}),
        ("server/manifest.json", {"made_by": {MOVES: MOVES}, "parity": {**parity, "reference": MOVES}}),
        ("server/engines/mine/engine.json", {"target": MOVES, "builder": {MOVES: MOVES}, "options": {"budget": MOVES}}),
    ):
        fields = json.loads((artifact / path).read_text())
        (artifact / path).write_text(json.dumps({**fields, **change}))
    edit_json(artifact / "server/keys/main/key.json", lambda key: key.update(made_by={MOVES: MOVES}))
    rebind_all(artifact)
    run_ok("run", artifact, clip_file, "--key", key_file, "--logits-out", tmp_path / "logits.npy")
    for command in (
        ("run", artifact, clip_file, "--key", key_file),
        ("read", tmp_path / "logits.npy", "--key", key_file, "--client", artifact / "client"),
        ("inspect", artifact / "client"),
        ("inspect", artifact / "server"),
        ("verify", artifact / "server"),
        ("verify", artifact, "--key", key_file, "--ckpt", TINY.path, *TINY.flags),
        ("inspect", artifact / "server/keys/main"),
        ("rotate", artifact, "--key", key_file, "-o", tmp_path / f"rotated{len(wanted)}"),
        ("enroll", artifact, "--key", key_file, "--name", "a", "-o", tmp_path / f"enrolled{len(wanted)}"),
    ):
        result = run_lcve(*command, *wanted)
        assert result.output.replace("\n", "").isprintable(), command


def test_nothing_of_a_record_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    report = ParityReport(
        reference=MOVES,
        clips=1,
        max_difference=0.0,
        mean_difference=0.0,
        logit_scale=1.0,
        top1_agreement=1.0,
        top5_agreement=1.0,
        tolerance=1e-4,
        controls={MOVES: 1.0},
    )
    record = EngineRecord(
        name="mine",
        kind=EngineKind.ONNXRUNTIME,
        precision=Precision.FP32,
        builder={},
        target=MOVES,
        manifest_sha256="0" * 64,
    )
    show.print_parity(report)
    show.show_selection(
        Selection(
            fastest=record,
            candidates=(Candidate(name="mine", record=record), Candidate(name="x", record=None, reason=MOVES)),
        )
    )
    click.echo(verify_line("engine mine", {"ok": None, "reason": MOVES}))
    said = capsys.readouterr().out
    assert said.count("all is well") == 5
    assert said.replace("\n", "").isprintable()


def test_json_on_the_screen_keeps_letters_and_escapes_what_moves_the_cursor() -> None:
    value = {"Ünïcode 拍手": [MOVES, "\ud800", "a\nb"]}
    for indent in (None, 2):
        text = show.to_json_text(value, indent=indent)
        assert text.replace("\n", "").isprintable()
        assert "Ünïcode 拍手" in text
        assert json.loads(text) == value


@pytest.mark.parametrize("hint", ["", f"do {MOVES}"])
def test_errors_and_warnings_move_no_cursor(capsys: pytest.CaptureFixture[str], hint: str) -> None:
    def fails() -> None:
        warnings.warn(MOVES, KeyFileWarning, stacklevel=1)
        raise LcveError(MOVES, hint=hint)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            guarded(fails)
    said = capsys.readouterr().err
    assert said.count("all is well") == (3 if hint else 2)
    assert said.replace("\n", "").isprintable()


def test_a_linked_checkpoint_names_the_output(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nice.pth").symlink_to(TINY.path)
    monkeypatch.chdir(tmp_path)
    run_ok("export", "--key", key_file, "--ckpt", "nice.pth", *TINY.flags)
    assert (tmp_path / "nice-lcve").is_dir()


def test_verify_is_the_owners_and_the_operators(exported: Path, artifact: Path, key_file: Path) -> None:
    owner = ("verify", exported, "--key", key_file, "--ckpt", TINY.path)
    assert "parity: ok" in run_ok(*owner)
    assert json.loads(run_ok(*owner, "--json"))["ok"] is True
    failed = run_lcve(*owner, "--tolerance", "1e-12")
    assert failed.exit_code == 1
    assert "FAILED" in failed.stdout
    assert "probe: ok" in run_ok("verify", exported / "server")
    assert json.loads(run_ok("verify", exported / "server", "--json"))["ok"] is True
    (artifact / "server/model.onnx").write_bytes(b"changed")
    assert "do not match its manifest" in run_error("verify", artifact / "server")


def test_inspect_says_what_things_are_and_no_secret(exported: Path, key_file: Path, encrypted: Path) -> None:
    for path, kind in (
        (key_file, "key file"),
        (exported, "artifact"),
        (exported / "server", "server folder"),
        (exported / "client", "client folder"),
        (encrypted, "encrypted clip"),
    ):
        shown = run_ok("inspect", path)
        assert kind in shown
        assert "18258155f8beb88349d78aa1c9c36104" in shown
        assert SECRET.hex() not in shown
        assert json.loads(run_ok("inspect", path, "--json"))["kind"] == kind


def test_what_an_export_assumed_is_printed_and_kept(key_file: Path, tmp_path: Path) -> None:
    export = ("export", "--key", key_file, "--ckpt", TINY.path, *TINY.flags)
    printed = run_ok(*export, "-o", tmp_path / "a")
    as_json = json.loads(run_ok(*export, "-o", tmp_path / "b", "--json"))
    shown, kept = run_ok("inspect", tmp_path / "a"), json.loads(run_ok("inspect", tmp_path / "b", "--json"))["assumed"]
    assert kept == as_json["assumptions"]
    assert {entry["fact"] for entry in kept} >= {"normalisation", "sampling", "class names"}
    for entry in kept:
        text = f"{entry['fact']}: {entry['value']} ({entry['option']})"
        assert f"note: assumed {text}\n" in printed
        assert text in as_json["notes"]
        assert f" {text}\n" in shown


def test_what_is_said_is_not_assumed(key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    given = (
        "--mean",
        "0.5,0.5,0.5",
        "--std",
        "0.5,0.5,0.5",
        "--sampling",
        "uniform",
        "--labels",
        tmp_path / "names.txt",
        "--problem-type",
        "single_label_classification",
        "--short-side",
        "32",
    )
    folder = ORACLES["hf_videomae"].path
    run_ok("export", "--key", key_file, "--ckpt", folder, "-o", tmp_path / "out", *given)
    assert "assumed         nothing\n" in run_ok("inspect", tmp_path / "out")


def test_export_prints_its_stages_and_its_table(key_file: Path, tmp_path: Path) -> None:
    result = run_lcve("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "a", *TINY.flags)
    for stage in ("reading the checkpoint", "scrambling", "writing the graph", "comparing", "probe", "manifest"):
        assert stage in result.stderr
    for word in ("parity: ok", "wrong key", "top-5 agreement", "tolerance"):
        assert word in result.stdout
    machine = run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "b", *TINY.flags, "--json")
    assert json.loads(machine)["parity"]["controls"]["wrong_key"] > 0.01


def test_lcve_export_is_lcve_export(key_file: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("lcve-export")
    arguments = ["--key", str(key_file), "--ckpt", str(TINY.path), "-o", str(tmp_path / "a"), *TINY.flags]
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")
    assert "hint: " in again.stderr


@pytest.mark.parametrize("command", ["keygen", "export", "encrypt", "decrypt", "run", "read", "verify", "inspect"])
def test_every_command_has_help(command: str) -> None:
    assert "Usage:" in run_ok(command, "--help")
    assert command in run_ok("--help")


# Bad input


def test_a_wrong_key_is_one_clear_error(exported: Path, encrypted: Path, clip_file: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.bin"
    SecurityKey(bytes(32)).write(wrong)
    for arguments in (
        ("run", exported, clip_file, "--key", wrong),
        ("encrypt", clip_file, "--key", wrong, "--client", exported / "client", "-o", tmp_path / "x.lcve"),
        ("decrypt", encrypted, "--key", wrong, "-o", tmp_path / "x.npy"),
        ("verify", exported, "--key", wrong, "--ckpt", TINY.path),
    ):
        error = run_error(*arguments)
        assert "key id" in error
        assert bytes(32).hex() not in error
    assert not (tmp_path / "x.lcve").exists()
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("content", [b"", b"LCVEKEY1short", b"-----BEGIN PRIVATE KEY-----"])
def test_a_bad_key_file_is_one_clear_error(exported: Path, clip_file: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.bin").write_bytes(content)
    assert "bad.bin" in run_error("run", exported, clip_file, "--key", tmp_path / "bad.bin")
    assert "missing.bin" in run_error("run", exported, clip_file, "--key", tmp_path / "missing.bin")


def test_a_clip_of_another_salt_is_refused(key_file: Path, encrypted: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", other, *TINY.flags)
    assert "salt" in run_error("run", other / "server", encrypted)
    assert "salt" in run_error("run", other, encrypted, "--key", key_file)


@pytest.mark.parametrize("name", ["empty.mp4", "text.mp4", "float.npy", "shape.npy", "missing.mp4"])
def test_a_bad_clip_is_one_clear_error(exported: Path, key_file: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 99)
    np.save(tmp_path / "float.npy", np.zeros((8, 32, 32, 3)))
    np.save(tmp_path / "shape.npy", np.zeros((8, 16, 16, 3), np.uint8))
    output = tmp_path / "out.lcve"
    client = exported / "client"
    error = run_error("encrypt", tmp_path / name, "--key", key_file, "--client", client, "-o", output)
    assert name in error
    assert not output.exists()


@pytest.mark.parametrize("logits", [np.full((1, 5), np.nan), np.zeros((0, 5)), np.zeros((1, 4)), np.zeros((1, 5), int)])
def test_logits_that_cannot_be_read_are_one_clear_error(
    exported: Path, key_file: Path, tmp_path: Path, logits: np.ndarray
) -> None:
    np.save(tmp_path / "logits.npy", logits)
    assert "expected" in run_error("read", tmp_path / "logits.npy", "--key", key_file, "--client", exported / "client")


@pytest.mark.parametrize("option", [("--views", "5x3"), ("--sampling", "uniform"), ("--stride", "2")])
def test_an_encrypted_clip_is_not_sampled_again(exported: Path, encrypted: Path, option: tuple[str, str]) -> None:
    assert "clip are fixed" in run_error("run", exported / "server", encrypted, *option)


def test_outputs_are_never_overwritten(exported: Path, key_file: Path, encrypted: Path, clip_file: Path) -> None:
    before = encrypted.read_bytes()
    client = exported / "client"
    assert "exists" in run_error("encrypt", clip_file, "--key", key_file, "--client", client, "-o", encrypted)
    assert "exists" in run_error("decrypt", encrypted, "--key", key_file, "-o", clip_file)
    assert "exists" in run_error("run", exported / "server", encrypted, "--logits-out", clip_file)
    assert encrypted.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mean", "0.5,0.5,0.5"), "together"),
        (("--mean", "a,b,c", "--std", "1,1,1"), "numbers separated by commas"),
        (("--mean", "0.5,0.5", "--std", "1,1"), "3 channels"),
        (("--mean", "0,0,0", "--std", "1,0,1"), "above zero"),
        (("--salt", "xyz"), "32 hex digits"),
        (("--opset", "9"), "--opset"),
        (("--tolerance", "0"), "tolerance"),
        (("--labels", "/nowhere.txt"), "/nowhere.txt"),
        (("--verify-clip", "/nowhere.mp4"), "/nowhere.mp4"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_options_are_one_clear_error(
    key_file: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    common = ("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", *TINY.flags)
    result = run_lcve(*common, *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_heads_are_asked_for_and_must_divide(key_file: Path, tmp_path: Path) -> None:
    common = ("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", "--frames", 8, "--size", 32)
    result = run_lcve(*common)
    assert "--num-heads N" in result.stderr
    assert "divide the width" in run_error(*common, "--num-heads", 5)


def test_an_artifact_in_place_of_its_side_is_hinted_at(exported: Path, key_file: Path, clip_file: Path) -> None:
    assert f"hint: pass {exported / 'server'}" in run_lcve("verify", exported).stderr
    encrypting = ("encrypt", clip_file, "--key", key_file, "--client", exported, "-o", clip_file.with_suffix(".lcve"))
    assert f"hint: pass {exported / 'client'}" in run_lcve(*encrypting).stderr
    assert f"hint: pass {exported}\n" in run_lcve("run", exported / "server", clip_file, "--key", key_file).stderr


def test_the_operators_side_needs_an_encrypted_clip(exported: Path, clip_file: Path) -> None:
    assert ".lcve" in run_error("run", exported / "server", clip_file)
    assert "does not exist" in run_error("inspect", exported / "nowhere")


ANY_COMMAND = "from lcve_deploy.cli.main import lcve; lcve()"


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of POSIX")
@pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_a_reader_that_goes_away_ends_a_command_in_silence(
    exported: Path, more: tuple[str, ...], buffered: str
) -> None:
    """As ``lcve inspect ... | head -0``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", ANY_COMMAND, "inspect", str(exported / "server"), *more]
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with os.fdopen(writing, "wb") as closed:
        ended = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert ended.stderr == ""
    assert ended.returncode == 128 + 13


def test_another_broken_pipe_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SystemExit) as ended:
        guarded(fails)
    assert ended.value.code == 1
    assert "Broken pipe" in capfd.readouterr().err
