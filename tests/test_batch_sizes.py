"""An engine with a minimum batch, as TensorRT has them, answers single clips wherever clips are run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lcve_deploy import SessionOptions
from lcve_deploy.artifact import EngineKind, EngineRecord, Profile, manifest_digest, record_files
from lcve_deploy.artifact.engines import engine_folder
from lcve_deploy.libraries.cuda import Gpu
from lcve_deploy.model.precision import Precision
from lcve_deploy.verbs.batch import Job
from lcve_deploy.verbs.batch.stage import open_stage
from lcve_deploy.verbs.batch.worker import Worker
from tests.conftest import ORACLE, ORACLES, run_ok
from tests.support import fake_gpu
from tests.support.engines import write_own_engine

TINY = ORACLES["v1_model_args"]
CLIP = ORACLE / "clip_8x32x32.npy"
NAME = "pairs"


@pytest.fixture
def service(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact with an engine that takes 2 or 3 clips at once, on a machine that seems to have a GPU."""
    module = fake_gpu.fake_tensorrt()
    for name, fake in {"tensorrt": module, **fake_gpu.fake_cupy()}.items():
        monkeypatch.setitem(sys.modules, name, fake)
    gpu = Gpu(name="a GPU", capability="8.9")
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda number=0: gpu)
    service = tmp_path / "service"
    shutil.copytree(exported, service)
    server = service / "server"
    folder = engine_folder(server, NAME)
    folder.mkdir(parents=True)
    (folder / "engine.plan").write_bytes(fake_gpu.plan_of(server / "model.onnx", (2, 2, 3)))
    record = EngineRecord(
        name=NAME,
        kind=EngineKind.TENSORRT,
        precision=Precision.FP32,
        builder={"tensorrt": module.__version__},
        target="a GPU",
        profile=Profile(minimum=2, optimum=2, maximum=3),
        files=record_files(folder),
        manifest_sha256=manifest_digest(server),
    )
    write_own_engine(folder, record)
    run_ok("verify", server, "--engine", NAME)
    return service


def test_lcve_run_answers_one_clip(service: Path, key_file: Path, tmp_path: Path) -> None:
    command = ("run", service, CLIP, "--key", key_file, "--engine", NAME, "--logits-out", tmp_path / "logits.npy")
    run_ok(*command)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), TINY.logits, atol=1e-5)


def test_lcve_run_answers_one_encrypted_clip(service: Path, key_file: Path, tmp_path: Path) -> None:
    client = ("--key", key_file, "--client", service / "client")
    run_ok("encrypt", CLIP, *client, "-o", tmp_path / "clip.lcve")
    graph, engine = (
        json.loads(run_ok("run", service / "server", tmp_path / "clip.lcve", *more, "--json"))["logits"]
        for more in ((), ("--engine", NAME))
    )
    np.testing.assert_allclose(engine, graph, atol=1e-5)


def test_lcve_verify_compares_it_with_the_checkpoint(service: Path, key_file: Path) -> None:
    command = ("verify", service, "--key", key_file, "--ckpt", TINY.path, "--engine", NAME, "--json")
    report = json.loads(run_ok(*command, *TINY.flags))
    assert report["ok"]
    assert report["max_difference"] <= report["tolerance"]


def test_a_worker_of_lcve_batch_answers_with_it(service: Path, key_file: Path, tmp_path: Path) -> None:
    job = Job(key_file=key_file, artifact=service, session=SessionOptions(engine=NAME), logits=True)
    with open_stage(tmp_path / "table.parquet", {}) as stage:
        worker = Worker(job, stage, 1)
        row = {"row": 0, "path": str(CLIP).encode(), "clip": "", "camera": ""}
        assert worker(pa.Table.from_pylist([row])).to_pylist() == [{"row": 0, "failed": False, "problem": None}]
        np.testing.assert_allclose(stage.read(0)["logits"], TINY.logits[None], atol=1e-5)
