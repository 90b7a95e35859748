"""Checkpoints by their id on a hub, and folders of its cache. The hub is one on loopback."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import Client, SecurityKey
from lcve_deploy.errors import ArtifactError, CheckpointError, MissingDependencyError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.hub import HubId
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from tests.conftest import ORACLE, ORACLES, run_ok
from tests.support.fake_hub import COMMIT, FakeHub, serving
from tests.support.warm import EXPORTS
from tests.test_checkpoints import folder, sharded

pytest.importorskip("huggingface_hub")

WHOLE = {path.name: path.read_bytes() for path in (ORACLE / "hf_videomae").iterdir()}
BESIDE = {"pytorch_model.bin": b"a pickle", "modeling.py": b"raise SystemExit", "training_args.bin": b"a pickle"}
PROCESSOR = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": 40, "crop_size": 32}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no proxy before loopback."""
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    parts = sharded(folder(tmp_path / "made", "hf_videomae"), "b.safetensors")
    models = {
        "org/whole": {**WHOLE, **BESIDE, "preprocessor_config.json": json.dumps(PROCESSOR).encode()},
        "org/parts": {path.name: path.read_bytes() for path in parts.iterdir()} | BESIDE,
        "org/pickled": {"config.json": WHOLE["config.json"], **BESIDE},
        "org/empty": {"README.md": b"nothing"},
        "org/greedy": {
            **{"config.json": WHOLE["config.json"], **BESIDE},
            "model.safetensors.index.json": json.dumps({"weight_map": {"a": "*", "b": "*.safetensors"}}).encode(),
        },
    }
    with serving(FakeHub(models)) as running:
        files = f"{running.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.address)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield running


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("name", ["org/whole", "org/parts", "org/whole@v1", f"org/whole@{COMMIT}"])
def test_a_model_is_fetched_by_its_id_without_pickles_and_code(hub: FakeHub, clip: np.ndarray, name: str) -> None:
    loaded = load_checkpoint(Path(name))
    assert loaded.source == f"{name.partition('@')[0]}@{COMMIT}"
    assert not set(hub.asked) & set(BESIDE)
    if name == "org/parts":
        np.testing.assert_allclose(
            BuiltinReference(loaded.model).logits(clip[None])[0], ORACLES["hf_videomae"].logits, atol=1e-6
        )
    else:
        assert loaded.model.normalisation.std == (0.25,) * 3


def test_a_model_in_the_cache_is_not_fetched_again(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    load_checkpoint(Path("org/whole"))
    hub.asked.clear()
    load_checkpoint(Path("org/whole"))
    assert hub.asked == []
    offline(monkeypatch)
    assert load_checkpoint(Path("org/whole")).source == f"org/whole@{COMMIT}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/nothing", "no file or folder org/nothing.*id of a model"),
        ("org/whole@v9", "cannot be downloaded"),
        ("org/pickled", "no safetensors weights"),
        ("org/empty", r"no config\.json"),
        ("org/greedy", "not a safetensors file"),
    ],
)
def test_what_the_hub_does_not_have_is_one_clear_error(hub: FakeHub, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(Path(name))
    assert caught.value.hint
    assert not set(hub.asked) & set(BESIDE)


def test_without_a_way_to_the_hub_the_error_says_what_was_tried(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(CheckpointError, match=r"no file or folder models/videomae; it looks like the id"):
        load_checkpoint(Path("models/videomae"))


def test_without_huggingface_hub_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match="looks like the id of a model") as caught:
        load_checkpoint(Path("org/whole"))
    assert "lcve-deploy[hub]" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["model.pth", "models/model.pth", "a/b/c", "/org/name", "../name", "org/name@", "org/.name", "org/na--me", ""],
)
def test_paths_are_not_taken_for_ids(text: str) -> None:
    assert HubId.parse(text) is None
    if text:
        with pytest.raises(CheckpointError, match="there is no checkpoint at"):
            load_checkpoint(Path("/nowhere") / text)


def test_a_path_that_is_there_comes_before_an_id(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ORACLE / "hf_videomae", tmp_path / "org/whole")
    monkeypatch.chdir(tmp_path)
    assert load_checkpoint(Path("org/whole")).source is None
    assert hub.asked == []


def test_the_environment_of_the_hub_is_respected(
    hub: FakeHub, key: SecurityKey, key_file: Path, tmp_path: Path
) -> None:
    """HF_ENDPOINT and HF_HOME are read when huggingface_hub is imported: this process has not loaded it."""
    environment = {
        **os.environ,
        **{"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"},
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    arguments = ("export", "--key", str(key_file), "--ckpt", "org/whole@v1", "--stride", "1", "--tolerance", "1e-4")
    command = [*EXPORTS.command("from lcve_deploy.cli import lcve; lcve()"), *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home/hub/models--org--whole/snapshots" / COMMIT).is_dir()
    settings = Client.open(tmp_path / "whole-lcve/client", key).settings
    assert settings.source == f"org/whole@{COMMIT}"
    assert COMMIT in run_ok("inspect", tmp_path / "whole-lcve/client")


# Folders of the cache


def cached(tmp_path: Path, files: dict[str, bytes], commit: str = COMMIT) -> Path:
    """A model's folder as the hub's cache has it: a snapshot of links into blobs."""
    repository = tmp_path / "hub/models--org--name"
    links = repository / "snapshots" / commit
    for place in (links, repository / "blobs", repository / "refs"):
        place.mkdir(parents=True, exist_ok=True)
    (repository / "refs/main").write_text(COMMIT)
    for number, (name, data) in enumerate(files.items()):
        (repository / f"blobs/{number}").write_bytes(data)
        (links / name).symlink_to(f"../../blobs/{number}")
    return repository


@pytest.mark.parametrize("part", ["", f"snapshots/{COMMIT}"])
def test_a_folder_of_the_cache_is_read(tmp_path: Path, clip: np.ndarray, part: str) -> None:
    loaded = load_checkpoint(cached(tmp_path, WHOLE) / part)
    expected = ORACLES["hf_videomae"].logits
    np.testing.assert_allclose(BuiltinReference(loaded.model).logits(clip[None])[0], expected, atol=1e-6)
    assert loaded.source == f"org/name@{COMMIT}"


def test_a_sharded_model_of_the_cache_is_read(tmp_path: Path) -> None:
    parts = sharded(folder(tmp_path, "hf_videomae"), "b.safetensors")
    path = cached(tmp_path, {file.name: file.read_bytes() for file in parts.iterdir()})
    assert load_checkpoint(path).model.config.classes == 5


def test_the_main_snapshot_is_taken_and_no_other(tmp_path: Path) -> None:
    cached(tmp_path, {"config.json": b"{}"}, commit="f" * 40)
    path = cached(tmp_path, WHOLE)
    assert load_checkpoint(path).source == f"org/name@{COMMIT}"
    (path / "refs/main").unlink()
    with pytest.raises(CheckpointError, match="expected one snapshot"):
        load_checkpoint(path)


@pytest.mark.parametrize("place", ["cache", "folder"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_that_lead_elsewhere_are_refused(tmp_path: Path, place: str, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(WHOLE[name])
    path = cached(tmp_path, WHOLE) / f"snapshots/{COMMIT}" if place == "cache" else folder(tmp_path, "hf_videomae")
    (path / name).unlink()
    (path / name).symlink_to(outside)
    with pytest.raises(CheckpointError, match="leaves the folder"):
        load_checkpoint(path)


def test_blobs_of_another_model_are_elsewhere(tmp_path: Path) -> None:
    path = cached(tmp_path, WHOLE)
    other = shutil.copytree(path, path.parent / "models--org--other", symlinks=True)
    link = path / f"snapshots/{COMMIT}/config.json"
    link.unlink()
    link.symlink_to(other / "blobs/0")
    with pytest.raises(CheckpointError, match="leaves the folder"):
        load_checkpoint(path)


def test_a_cache_that_is_not_complete_is_one_clear_error(tmp_path: Path) -> None:
    path = cached(tmp_path, WHOLE)
    for blob in (path / "blobs").iterdir():
        blob.unlink()
    with pytest.raises(CheckpointError, match="link to a missing file"):
        load_checkpoint(path / f"snapshots/{COMMIT}")


@pytest.mark.parametrize("value", ["org/name", 5, "https://example.org/x"])
def test_a_source_in_the_settings_is_checked(artifact: Path, key: SecurityKey, value: Any) -> None:
    path = artifact / "client/client.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "source": value}))
    with pytest.raises(ArtifactError, match="source"):
        Client.open(artifact / "client", key)
