"""Sealed clips on the command line, on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import SealingKey, SecurityKey, classify
from lcve_deploy.clipfile import is_sealed_clip
from lcve_deploy.errors import EncryptedClipError
from lcve_deploy.sealing import Suite
from tests.conftest import ORACLE, run_error, run_ok

CLIP = ORACLE / "clip_8x32x32.npy"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """serve.key, owner.key, and their public halves."""
    folder = tmp_path_factory.mktemp("sealing-keys")
    SealingKey.create().write(folder / "serve.key")
    SealingKey.create(Suite.HYBRID).write(folder / "owner.key")
    return folder


@pytest.fixture(scope="module")
def sealed(exported: Path, key_file: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "clip.lcve"
    client = ("--key", key_file, "--client", exported / "client")
    said = run_ok("encrypt", CLIP, *client, "--seal-to", keys / "serve.pub", "-o", path)
    assert "sealed to" in said
    return path


def test_the_operator_opens_and_runs_a_sealed_clip(
    exported: Path, key_file: Path, keys: Path, sealed: Path, tmp_path: Path
) -> None:
    run_ok("run", exported / "server", sealed, "--open-with", keys / "serve.key", "--logits-out", tmp_path / "a.npy")
    run_ok("encrypt", CLIP, "--key", key_file, "--client", exported / "client", "-o", tmp_path / "plain.lcve")
    run_ok("run", exported / "server", tmp_path / "plain.lcve", "--logits-out", tmp_path / "b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    for options in ((), ("--open-with", keys / "owner.key")):
        assert "sealed to the key" in run_error("run", exported / "server", sealed, *options)


def test_the_owner_opens_an_archive(exported: Path, key_file: Path, keys: Path, tmp_path: Path) -> None:
    client = ("--key", key_file, "--client", exported / "client")
    run_ok("encrypt", CLIP, *client, "--seal-to", keys / "owner.pub", "-o", tmp_path / "archive.lcve", "--json")
    archive = (tmp_path / "archive.lcve", "--key", key_file)
    assert "sealed to the key" in run_error("decrypt", *archive, "-o", tmp_path / "none.npy")
    assert not (tmp_path / "none.npy").exists()
    run_ok("decrypt", *archive, "--open-with", keys / "owner.key", "-o", tmp_path / "clip.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "clip.npy"), np.load(CLIP))


def test_classify_opens_a_sealed_clip(exported: Path, key: SecurityKey, keys: Path, sealed: Path) -> None:
    found = classify(sealed, exported, key=key, open_with=SealingKey.read(keys / "serve.key"))
    assert found.predictions == classify(CLIP, exported, key=key).predictions
    with pytest.raises(EncryptedClipError, match="sealed to the key"):
        classify(sealed, exported, key=key)


def test_inspect_shows_what_stands_in_the_clear(keys: Path, sealed: Path) -> None:
    shown = json.loads(run_ok("inspect", sealed, "--json"))
    fingerprint = SealingKey.read(keys / "serve.key").public_key.fingerprint
    assert (shown["kind"], shown["sealed to"], shown["views"]) == ("sealed clip", fingerprint, "1x1")


def test_a_key_is_not_taken_for_its_other_half(exported: Path, key_file: Path, keys: Path, tmp_path: Path) -> None:
    client = ("--key", key_file, "--client", exported / "client", "-o", tmp_path / "clip.lcve")
    assert "received a private key" in run_error("encrypt", CLIP, *client, "--seal-to", keys / "serve.key")
    assert "received a public key" in run_error(
        "decrypt", CLIP, *client[:2], "-o", "a.npy", "--open-with", keys / "serve.pub"
    )
    assert not (tmp_path / "clip.lcve").exists()


def test_an_audit_of_a_stolen_sealed_clip_has_nothing_to_run_on(
    exported: Path, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("lcve_deploy.verbs.audit.auditing.run_attacks", lambda case, progress: seen.append(case) or [])
    said = run_ok("audit", exported / "server", "--ciphertext", sealed, "-o", tmp_path / "audit.html")
    assert "without the private key there is nothing to run an attack on" in said
    assert "nothing to run an attack on" in (tmp_path / "audit.html").read_text()
    assert seen[0].holdings.ciphertexts is None


def test_a_batch_writes_nothing_that_is_not_sealed(
    exported: Path, key_file: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker of a batch, with a stage of its own: all that it writes is looked at."""
    import warnings

    from lcve_deploy import Client, RemoteOptions
    from lcve_deploy.sealing import SealingPublicKey
    from lcve_deploy.verbs.batch.job import Job
    from lcve_deploy.verbs.batch.stage import open_stage
    from lcve_deploy.verbs.batch.videos import Video
    from lcve_deploy.verbs.batch.worker import Worker

    public = SealingPublicKey.read(keys / "owner.pub")
    job = Job(key_file=key_file, client=exported / "client", encrypt_only=True, remote=RemoteOptions(seal_to=public))
    identity = job.identity([Video(row=0, given=str(CLIP), path=str(CLIP), clip="a.lcve")])
    assert identity["sealed to"] == public.fingerprint
    cipher = Client.open(exported / "client", SecurityKey.read(key_file)).encrypt_video(
        job.open_client().read_video(CLIP)
    )
    part = cipher.clip.values.tobytes()[1000:1064]
    with open_stage(tmp_path / "clips", identity) as stage, warnings.catch_warnings():
        worker = Worker(job, stage, None)
        answer = worker._process(0, str(CLIP).encode(), "a.lcve", "")
        assert answer == {"row": 0, "failed": False, "problem": None}, stage.read(0)
        assert is_sealed_clip(stage.clips / "a.lcve")
        written = [path for path in stage.folder.rglob("*") if path.is_file()]
        assert written
        assert not [path for path in written if part in path.read_bytes()]
