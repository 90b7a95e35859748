"""``lcve audit`` on a real artifact: what it says, to whom, and what it refuses."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    AuditInputs,
    CheckpointOptions,
    Client,
    ExportOptions,
    PlainClip,
    SecurityKey,
    Views,
    audit,
    export,
    open_session,
    write_clip_file,
)
from lcve_deploy.attacks.catalogue import ATTACKS
from lcve_deploy.attacks.page import CAUTION
from lcve_deploy.attacks.running import run_attacks
from lcve_deploy.clipfile import ClipFile
from lcve_deploy.exporters.checkpoints.outer import load_outer_weights
from lcve_deploy.keys.orders import derive_orders
from tests.conftest import GEOMETRY, ORACLE, ORACLES, SALT, run_error, run_lcve, run_ok
from tests.support.artifacts import add_key, binding_of, editing_key, key_folder

REFERENCE = ORACLES["v1_model_args"].path
CLIP = ORACLE / "clip_8x32x32.npy"


@pytest.fixture(scope="module")
def ciphertext(exported: Path, key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cipher") / "clip.lcve"
    run_ok("encrypt", CLIP, "--key", key_file, "--client", exported / "client", "-o", path)
    return path


@pytest.fixture(scope="module")
def audited(exported: Path, key_file: Path, ciphertext: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:  # type: ignore[type-arg]
    """The report of an attacker who has all there is, as JSON and as a page."""
    page = tmp_path_factory.mktemp("audit") / "audit.html"
    text = run_ok(
        *("audit", exported / "server", "--key", key_file, "--reference", REFERENCE, "--ciphertext", ciphertext),
        *("--known-clip", CLIP, "--known-class", ciphertext, 0, "-o", page, "--json"),
    )
    return json.loads(text), page.read_text()


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has an audit run one attack, by its name, in place of all."""

    def chosen(name: str) -> None:
        attacks = [attack for attack in ATTACKS if attack.name == name]
        monkeypatch.setattr("lcve_deploy.verbs.audit.auditing.run_attacks", partial(run_attacks, attacks=attacks))

    return chosen


def attack(report: dict, name: str) -> dict:  # type: ignore[type-arg]
    return next(row for row in report["attacks"] if row["name"] == name)


def ran(report: dict) -> list[dict]:  # type: ignore[type-arg]
    """The attacks that were run: all, but those on tensors that VideoMAE does not have."""
    return [row for row in report["attacks"] if row["state"] != "not run"]


@pytest.mark.parametrize(("folder", "name"), [("vjepa2", "rotary"), ("dinov3_vit", "rotary"), ("beit", "relative")])
def test_the_positions_of_newer_families_reveal_k1(
    tmp_path: Path, key: SecurityKey, folder: str, name: str, only: Callable[[str], None]
) -> None:
    export(ORACLE / "folders" / folder, tmp_path / "service", key=key)
    only(name)
    (result,) = audit(tmp_path / "service/server", AuditInputs(key=key)).results
    assert result.recovered["cubes"].exact == 1.0
    assert result.ok


def test_a_reference_checkpoint_recovers_all_orders_and_the_report_begins_with_that(audited: tuple) -> None:  # type: ignore[type-arg]
    report, page = audited
    recovered = attack(report, "reference")["recovered"]
    assert {order: recovery["exact"] for order, recovery in recovered.items()} == {"K1": 1.0, "K2": 1.0, "K3": 1.0}
    assert report["verdicts"][0]["opens"]
    first = page.index("verdict open")
    assert first < page.index("K1 and K2 recovered in full") < page.index("All attacks")


def test_every_attack_that_can_be_run_is_scored_with_controls_that_hold(audited: tuple) -> None:  # type: ignore[type-arg]
    report, _ = audited
    assert report["controls_hold"]
    rows = ran(report)
    assert {row["name"] for row in report["attacks"]} - {row["name"] for row in rows} == {"rotary", "relative"}
    assert {row["state"] for row in rows} == {"measured"}
    for row in rows:
        assert row["control"]["planted"].keys() == row["control"]["required"].keys()
        assert row["seconds"] >= 0
    assert attack(report, "chosen")["recovered"]["K2"]["exact"] == 1.0
    assert attack(report, "linking")["recovered"]["K3"]["exact"] == 1.0
    drift = attack(report, "reference")["curve"]
    assert drift[0]["K2"] == 1.0
    assert drift[-1]["K2"] < 0.5


def test_clips_of_known_classes_reveal_their_logits(
    exported: Path, key: SecurityKey, tmp_path: Path, only: Callable[[str], None]
) -> None:
    client, session = Client.open(exported / "client", key), open_session(exported / "server")
    rng, classes = np.random.default_rng(3), {}
    for seed in range(24):
        scale = rng.uniform(20, 255, 3)
        plain = PlainClip(values=(rng.random((1, *GEOMETRY.clip_shape)) * scale).astype(np.uint8))
        cipher = client.encrypt(plain)
        write_clip_file(tmp_path / f"{seed}.lcve", ClipFile(clip=cipher, views=Views()))
        classes[tmp_path / f"{seed}.lcve"] = int(client.plain_order(session.run(cipher))[0].argmax())
    only("classes")
    report = audit(exported / "server", AuditInputs(known_classes=list(classes.items()), key=key))
    labels = report.results[0].estimate.labels  # type: ignore[union-attr]
    assert labels is not None
    assert set(labels[labels >= 0]) == set(classes.values())
    [operator] = [verdict for verdict in report.verdicts if "known classes" in verdict.attacker]
    assert operator.recovered["labels"] > 0
    path = next(iter(classes))
    only("classes")
    for number in (-1, 999):
        error = run_error("audit", exported / "server", "--known-class", path, number, "-o", tmp_path / "a.html")
        assert f"class {number} of" in error
    assert not (tmp_path / "a.html").exists()


def test_the_page_stands_alone_and_shows_every_attack(audited: tuple) -> None:  # type: ignore[type-arg]
    report, page = audited
    assert CAUTION in page
    for row in ran(report):
        assert f'<section id="{row["name"]}">' in page
    assert page.count("data:image/png;base64,") > len(ran(report))
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)


def test_neither_secret_nor_orders_are_in_the_report(audited: tuple, key: SecurityKey, exported: Path) -> None:  # type: ignore[type-arg]
    report, page = audited
    salt = bytes.fromhex(binding_of(exported / "server").salt)
    orders = derive_orders(key, salt=salt, geometry=GEOMETRY)
    for text in (json.dumps(report), page):
        assert key.to_bytes()[8:40].hex() not in text
        assert str(orders.cube_order[:6].tolist())[1:-1] not in text
        assert str(orders.pixel_order[:6].tolist())[1:-1] not in text


def test_without_the_key_nothing_is_scored_and_the_report_says_so(exported: Path, tmp_path: Path) -> None:
    page = tmp_path / "audit.html"
    report = json.loads(run_ok("audit", exported / "server", "--reference", REFERENCE, "-o", page, "--json"))
    assert report["verdicts"] == []
    assert {row["state"] for row in report["attacks"]} == {"not scored", "not run"}
    assert "needs clips of known classes" in {row["reason"] for row in report["attacks"]}
    assert all(row["recovered"] == {} for row in report["attacks"])
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "Nothing was scored: this needs the key." in page.read_text()


def test_a_known_clip_is_found_among_the_ciphertexts_without_a_key(
    exported: Path, ciphertext: Path, key: SecurityKey, only: Callable[[str], None]
) -> None:
    from lcve_deploy.verbs.audit import AuditInputs, audit

    only("known")
    report = audit(exported / "server", AuditInputs(ciphertexts=[ciphertext], known_clips=[CLIP]))
    result = next(result for result in report.results if result.attack.name == "known")
    orders = derive_orders(key, salt=bytes.fromhex(binding_of(exported / "server").salt), geometry=GEOMETRY)
    assert result.estimate is not None
    np.testing.assert_array_equal(result.estimate.cubes, orders.cube_order)
    np.testing.assert_array_equal(result.estimate.values, orders.pixel_order)


@pytest.fixture
def camera(exported: Path, key_file: Path, tmp_path: Path) -> Path:
    """A second key of the model, as it was enrolled."""
    run_ok("enroll", exported, "--key", key_file, "--name", "camera-7", "-o", tmp_path / "camera")
    return tmp_path / "camera"


def test_two_keys_of_one_model_are_linked(
    exported: Path, camera: Path, key_file: Path, tmp_path: Path, only: Callable[[str], None]
) -> None:
    only("linking")
    first, second = SecurityKey.read(key_file), SecurityKey.read(camera / "key.bin")
    report = audit(exported / "server", AuditInputs(other=camera / "server", key=first, other_key=second))
    result = next(result for result in report.results if result.attack.name == "linking")
    assert {name: recovery.exact for name, recovery in result.recovered.items()} == dict.fromkeys(
        ("cubes", "values", "labels"), 1.0
    )
    arguments = ("audit", exported / "server", "--key", key_file, "-o", tmp_path / "audit.html", "--other")
    assert "the key does not belong to" in run_error(*arguments, camera / "server")
    assert "expected a key folder with key.json" in run_error(*arguments, exported / "server")
    with editing_key(camera / "server") as content:
        content["model_sha256"] = "0" * 64
    assert "was made for the model with the manifest" in run_error(*arguments, camera / "server")
    assert not (tmp_path / "audit.html").exists()


def test_the_key_folder_is_chosen_by_name(
    artifact: Path, camera: Path, tmp_path: Path, only: Callable[[str], None]
) -> None:
    server, page = artifact / "server", ("-o", tmp_path / "audit.html")
    add_key(server, camera / "server", "camera-7")
    for name in ((), ("--key-name", "camera-8")):
        error = run_error("audit", server, *name, *page)
        assert "expected the name of one of the 2 key folders" in error
        assert "camera-7, main" in error
    only("sinusoid")
    key = ("--key", camera / "key.bin", "--key-name", "camera-7", "--json")
    report = json.loads(run_ok("audit", server, *key, *page))
    assert report["subject"]["salt"] == binding_of(server, "camera-7").salt


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "hf_vivit"])
def test_outer_weights_of_every_format_are_read(name: str) -> None:
    outer = load_outer_weights(ORACLES[name].path, GEOMETRY)
    assert outer["cube_embedding.weight"].shape == (384, 48)
    assert outer["positional_encoding"].shape == (64, 48)
    assert outer["head.weight"].shape == (48, 5)
    assert outer["head.bias"].shape == (5,)


def test_a_pre_trained_encoder_without_a_classifier_is_a_reference_too(tmp_path: Path) -> None:
    import torch

    content = torch.load(ORACLES["v2_plain"].path, weights_only=True)
    weights = {
        f"encoder.{name}": tensor for name, tensor in content.get("module", content.get("model", content)).items()
    }
    encoder = {name: tensor for name, tensor in weights.items() if "head" not in name and "norm" not in name}
    torch.save({"model": {**encoder, "mask_token": torch.zeros(1, 1, 24)}}, tmp_path / "pretrained.pth")
    outer = load_outer_weights(tmp_path / "pretrained.pth", GEOMETRY)
    assert set(outer) == {"cube_embedding.weight", "positional_encoding"}


def test_what_does_not_belong_is_one_clear_error_and_leaves_no_page(
    exported: Path, key_file: Path, ciphertext: Path, tmp_path: Path
) -> None:
    page, server = tmp_path / "audit.html", exported / "server"
    SecurityKey.create().write(tmp_path / "wrong.bin")
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8))
    for arguments, message in (
        (("--key", tmp_path / "wrong.bin"), "the key does not belong to"),
        (("--known-clip", tmp_path / "noise.npy", "--ciphertext", ciphertext), "no encrypted clip has the cubes"),
        (("--known-clip", tmp_path / "nothing.mp4"), "no video"),
        (("--ciphertext", key_file), "not an encrypted clip"),
        (("--reference", key_file), "is damaged, or not a PyTorch checkpoint"),
        (("--reference", tmp_path / "nothing.pth"), "no checkpoint"),
    ):
        assert message in run_error("audit", server, *arguments, "-o", page)
        assert not page.exists()
    assert "needs --other and --key" in run_error("audit", server, "--other-key", key_file, "-o", page)
    page.write_text("mine")
    assert "exists" in run_error("audit", server, "-o", page)
    assert page.read_text() == "mine"


def test_a_reference_of_another_width_or_cube_is_refused(exported: Path, tmp_path: Path) -> None:
    import torch

    for shape, message in (
        ((32, 3, 2, 8, 8), "width 48 of the artifact, received 32"),
        ((48, 3, 2, 4, 4), "reference with cubes"),
    ):
        path = tmp_path / f"{shape[0]}-{shape[-1]}.pth"
        torch.save({"patch_embed.proj.weight": torch.zeros(shape)}, path)
        assert message in run_error("audit", exported / "server", "--reference", path, "-o", tmp_path / "a.html")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "nothing.pth")
    error = run_error("audit", exported / "server", "--reference", tmp_path / "nothing.pth", "-o", tmp_path / "a.html")
    assert "no cube embedding" in error


def test_under_a_pin_an_unsigned_artifact_is_refused(exported: Path, tmp_path: Path) -> None:
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    pin = ("--signed-by", tmp_path / "signing.pub")
    assert "not signed" in run_error("audit", exported / "server", *pin, "-o", tmp_path / "audit.html")


def test_a_damaged_artifact_is_refused(artifact: Path, tmp_path: Path) -> None:
    (key_folder(artifact / "server") / "keyed.safetensors").write_bytes(b"")
    assert "keyed.safetensors has 0 bytes" in run_error("audit", artifact / "server", "-o", tmp_path / "b.html")


def test_shown_labels_are_no_secret_to_score_and_the_video_layout_is_audited_too(
    key: SecurityKey, key_file: Path, tmp_path: Path, only: Callable[[str], None]
) -> None:
    from lcve_deploy import Layout

    only("reference")
    options = ExportOptions(
        checkpoint=CheckpointOptions(heads=3, frames=8, size=32), show_labels=True, layout=Layout.VIDEO, salt=SALT
    )
    export(REFERENCE, tmp_path / "a", key=key, options=options)
    run_ok("encrypt", CLIP, "--key", key_file, "--client", tmp_path / "a/client", "-o", tmp_path / "clip.lcve")
    text = run_ok(
        *("audit", tmp_path / "a/server", "--key", key_file, "--ciphertext", tmp_path / "clip.lcve"),
        *("--known-class", tmp_path / "clip.lcve", 0),
        *("--reference", REFERENCE, "--json", "-o", tmp_path / "audit.html"),
    )
    assert json.loads(text)["assumed"]["clips of known classes"].startswith("the labels are shown")
    recovered = attack(json.loads(text), "reference")["recovered"]
    assert {order: recovery["exact"] for order, recovery in recovered.items()} == {"K1": 1.0, "K2": 1.0}


def test_a_sealed_clip_of_a_known_class_is_one_error_with_a_hint_that_can_be_followed(
    exported: Path, key_file: Path, tmp_path: Path
) -> None:
    run_ok("keygen", "--sealing", "-o", tmp_path / "seal.key")
    sealed = ("--seal-to", tmp_path / "seal.pub", "-o", tmp_path / "sealed.lcve")
    run_ok("encrypt", CLIP, "--key", key_file, "--client", exported / "client", *sealed)
    result = run_lcve("audit", exported / "server", "--known-class", tmp_path / "sealed.lcve", 0, "-o", tmp_path / "a")
    assert result.exit_code == 1
    assert "error: the clip of a known class is sealed to the key" in result.stderr
    assert "hint: pass the encrypted clip as it was before it was sealed" in result.stderr
    assert "--open-with" not in result.stderr
    assert not (tmp_path / "a").exists()


def test_the_report_says_what_was_assumed(
    exported: Path, key_file: Path, ciphertext: Path, tmp_path: Path, only: Callable[[str], None]
) -> None:
    only("sinusoid")
    np.save(tmp_path / "flat.npy", np.full(GEOMETRY.clip_shape, 90, np.uint8))
    text = run_ok("audit", exported / "server", "--key", key_file, "-o", tmp_path / "a.html").split("assumed:\n")[1]
    assert "a built-in film, encrypted with the key, because no encrypted clip was given" in text
    assert "other key of the model: this key with a new salt, made for the audit" in text
    assert "chance is measured with 32 independent keys, of clips with 4 of them" in text
    clips = ("--ciphertext", ciphertext, "--known-clip", tmp_path / "flat.npy", "--known-class", ciphertext, 0)
    report = json.loads(
        run_ok("audit", exported / "server", "--key", key_file, *clips, "--json", "-o", tmp_path / "b.html")
    )
    assert report["assumed"]["sample clip, for pictures and for what tokens show"] == "the first of the encrypted clips"
    assert "cubes in them: 1 of 64; distinct positions in a cube: 1 of 384" in report["assumed"]["known clips"]
    assert report["assumed"]["clips of known classes"].startswith("1, which show 1 of the 5 classes")
    assert "cubes in them: 1 of 64; distinct positions" in (tmp_path / "b.html").read_text()
    unscored = json.loads(run_ok("audit", exported / "server", "--json", "-o", tmp_path / "c.html"))
    assert unscored["assumed"] == {"signatures": "not checked", "scores": "none, because no key was given"}
