"""Packed clips end to end: files, both protocols, sealed or not, and all that a server refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tritonclient")

from lcve_deploy import (
    EncryptedClip,
    PlainClip,
    RemoteOptions,
    RemoteSession,
    SealingKey,
    SealingPublicKey,
    SecurityKey,
    Views,
    open_session,
)
from lcve_deploy.client import Client
from lcve_deploy.clipfile import ClipFile, read_clip_file, write_clip_file
from lcve_deploy.clips import Scheme
from lcve_deploy.errors import EncryptedClipError, LcveError, MismatchError
from lcve_deploy.packing import pack
from lcve_deploy.sealing import seal_request
from lcve_deploy.verbs.batch.job import Job
from lcve_deploy.verbs.batch.stage import open_stage
from lcve_deploy.verbs.batch.videos import Video
from lcve_deploy.verbs.batch.worker import Worker
from lcve_deploy.verbs.classify import classify
from lcve_deploy.verbs.export import ExportOptions, export
from tests.conftest import ORACLES, SALT, run_error, run_ok
from tests.support import servers
from tests.support.servers import LENGTH, NAME, Server, serving

PROTOCOLS = ("http", "grpc")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, oracle = tmp_path_factory.mktemp("dct") / "a", ORACLES["v1_module_learnable"]
    options = ExportOptions(checkpoint=oracle.options, salt=SALT, scheme=Scheme.DCT)
    export(oracle.path, folder, key=SecurityKey(bytes(range(32))), options=options)
    return folder


@pytest.fixture(scope="module")
def sealing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    SealingKey.create().write(folder / "serve.key")
    return folder


@pytest.fixture(scope="module")
def server(artifact: Path, sealing: Path) -> Iterator[Server]:
    with serving(artifact / "server", "--open-with", sealing, "--log-level", "info") as server:
        yield server


@pytest.fixture
def client(artifact: Path, key: SecurityKey) -> Client:
    return Client.open(artifact / "client", key)


def encrypted(client: Client, clip: np.ndarray, clips: int = 1, step: float | None = None) -> EncryptedClip:
    return client.encrypt(PlainClip(values=np.stack([np.roll(clip, i, axis=1) for i in range(clips)])), step=step)


# Files


@pytest.mark.parametrize("step", [None, 4.0, 256.0])
def test_a_file_reads_back(client: Client, clip: np.ndarray, tmp_path: Path, step: float | None) -> None:
    content = ClipFile(clip=encrypted(client, clip, 6, step), views=Views(temporal=3, spatial=2))
    write_clip_file(tmp_path / "a.lcve", content)
    read = read_clip_file(tmp_path / "a.lcve")
    assert read.clip.values.tobytes() == content.clip.values.tobytes()
    assert (read.clip.binding, read.views) == (content.clip.binding, content.views)
    assert read.clip.binding.scheme == "lcve-dct-1"


def test_a_sealed_file_reads_back_and_is_as_small(
    client: Client, clip: np.ndarray, sealing: Path, tmp_path: Path
) -> None:
    content = ClipFile(clip=encrypted(client, clip), views=Views())
    to, key = SealingPublicKey.read(sealing / "serve.pub"), SealingKey.read(sealing / "serve.key")
    for name, seal_to in (("plain", None), ("sealed", to)):
        write_clip_file(tmp_path / f"{name}.lcve", content, seal_to=seal_to)
    read = read_clip_file(tmp_path / "sealed.lcve", open_with=key)
    assert read.clip.values.tobytes() == content.clip.values.tobytes()
    sizes = [(tmp_path / f"{name}.lcve").stat().st_size for name in ("plain", "sealed")]
    assert sizes[1] < sizes[0] + 600


def test_padding_hides_how_much_is_in_a_clip(client: Client, clip: np.ndarray, tmp_path: Path) -> None:
    flat = np.zeros_like(clip)
    sizes = []
    for name, values in (("full", clip), ("flat", flat)):
        content = ClipFile(clip=encrypted(client, values), views=Views())
        write_clip_file(tmp_path / f"{name}.lcve", content, pad=2**17)
        sizes.append((tmp_path / f"{name}.lcve").stat().st_size)
        assert read_clip_file(tmp_path / f"{name}.lcve").clip.values.tobytes() == content.clip.values.tobytes()
    assert sizes[0] == sizes[1]


def test_clips_of_equal_length_are_not_padded(
    exported: Path, clip: np.ndarray, key: SecurityKey, tmp_path: Path
) -> None:
    raw = Client.open(exported / "client", key).encrypt(PlainClip(values=clip[None]))
    with pytest.raises(EncryptedClipError, match="all have the same length"):
        write_clip_file(tmp_path / "a.lcve", ClipFile(clip=raw, views=Views()), pad=4096)
    assert not (tmp_path / "a.lcve").exists()


def test_a_damaged_file_is_refused(client: Client, clip: np.ndarray, tmp_path: Path) -> None:
    write_clip_file(tmp_path / "a.lcve", ClipFile(clip=encrypted(client, clip), views=Views()))
    data = bytearray((tmp_path / "a.lcve").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b.lcve").write_bytes(data)
    with pytest.raises(EncryptedClipError, match=r"checksum differs.*b\.lcve"):
        read_clip_file(tmp_path / "b.lcve")


def test_a_file_with_other_views_than_it_says_is_refused(client: Client, clip: np.ndarray, tmp_path: Path) -> None:
    content = ClipFile(clip=encrypted(client, clip, 2), views=Views(temporal=3))
    write_clip_file(tmp_path / "a.lcve", content)
    with pytest.raises(EncryptedClipError, match="packed clips"):
        read_clip_file(tmp_path / "a.lcve")


# Servers


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seals", [False, True])
def test_a_server_answers_as_a_session_does(
    server: Server, artifact: Path, client: Client, clip: np.ndarray, sealing: Path, protocol: str, seals: bool
) -> None:
    clips = encrypted(client, clip, 3)
    expected = open_session(artifact / "server").run(clips)
    options = RemoteOptions(seal_to=SealingPublicKey.read(sealing / "serve.pub") if seals else None)
    with RemoteSession(server.address(protocol), client.settings.binding, options) as session:
        np.testing.assert_allclose(session.run(clips), expected, atol=1e-5)


def counted(server: Server, metric: str = "lcve_packed_bytes_total") -> float:
    """Return a counter of a server, by default the bytes of packed clips that it has received."""
    metrics = servers.request(server.host, server.metrics, "GET", "/metrics")[1].decode()
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(metric + "{"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seals", [False, True])
def test_padded_requests_have_the_same_length(
    server: Server, client: Client, clip: np.ndarray, sealing: Path, protocol: str, seals: bool
) -> None:
    to = SealingPublicKey.read(sealing / "serve.pub") if seals else None
    options = RemoteOptions(pad=2**16, seal_to=to)
    with RemoteSession(server.address(protocol), client.settings.binding, options) as session:
        for clips in (encrypted(client, clip, 2), encrypted(client, np.zeros_like(clip), 2)):
            before = counted(server)
            session.run(clips)
            assert counted(server) - before == 2 * 2**16


def test_a_padding_without_use_or_out_of_range_is_refused(exported: Path, key: SecurityKey) -> None:
    binding = Client.open(exported / "client", key).settings.binding
    with pytest.raises(EncryptedClipError, match="all have the same length"):
        RemoteSession("grpc://localhost:1/m", binding, RemoteOptions(pad=4096))
    for pad in (0, -1, 2**24 + 1):
        with pytest.raises(ValueError, match="multiple of 1 to 16777216 bytes"):
            RemoteOptions(pad=pad)


def test_a_batch_pads_the_clips_that_it_writes(
    exported: Path, artifact: Path, clip: np.ndarray, key: SecurityKey, tmp_path: Path
) -> None:
    key.write(tmp_path / "key.bin")
    videos = [Video(row=0, given="a", path=str(tmp_path / "a.npy"), clip="a.lcve")]
    padded = RemoteOptions(pad=2**16)
    job = Job(key_file=tmp_path / "key.bin", client=artifact / "client", encrypt_only=True, remote=padded)
    assert job.identity(videos)["padded to"] == 2**16
    np.save(tmp_path / "a.npy", clip)
    with open_stage(tmp_path / "clips", job.identity(videos)) as stage:
        Worker(job, stage, None)._process(0, videos[0].path.encode(), "a.lcve", "")
        assert read_clip_file(stage.clips / "a.lcve").views == Views()
        assert 2**16 < (stage.clips / "a.lcve").stat().st_size < 2**16 + 1000
    with pytest.raises(EncryptedClipError, match="all have the same length"):
        replace(job, client=exported / "client").identity(videos)


def test_packed_clips_travel_in_shared_memory(artifact: Path, client: Client, clip: np.ndarray) -> None:
    clips = encrypted(client, clip, 2)
    expected = open_session(artifact / "server").run(clips)
    with serving(artifact / "server", "--shared-memory") as server:
        options = RemoteOptions(shared_memory=True)
        with RemoteSession(server.address(), client.settings.binding, options) as session:
            for _ in range(2):
                np.testing.assert_allclose(session.run(clips), expected, atol=1e-5)


def test_metrics_count_what_was_saved(server: Server, client: Client, clip: np.ndarray) -> None:
    clips, names = encrypted(client, clip), ("lcve_packed_bytes_total", "lcve_unpacked_bytes_total")
    before = [counted(server, name) for name in names]
    with RemoteSession(server.address(), client.settings.binding) as session:
        session.run(clips)
    packed, unpacked = (counted(server, name) - first for name, first in zip(names, before, strict=True))
    assert packed == len(pack(clips.values, clips.binding.geometry))
    assert unpacked == clip.size


def test_a_server_of_the_other_scheme_gets_no_clip(
    exported: Path, server: Server, client: Client, clip: np.ndarray, key: SecurityKey
) -> None:
    raw = Client.open(exported / "client", key)
    with serving(exported / "server") as other:
        for at, sent in ((other, client), (server, raw)):
            clips = sent.encrypt(PlainClip(values=clip[None]))
            session = RemoteSession(at.address(), sent.settings.binding)
            with session, pytest.raises(MismatchError, match="scheme"):
                session.run(clips)


def post(server: Server, data: bytes, parameters: dict[str, str], name: str = "packed") -> tuple[int, str]:
    tensor = {"name": name, "datatype": "UINT8", "shape": [len(data)], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"parameters": parameters, "inputs": [tensor]}).encode()
    headers = {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    status, body = servers.request(server.host, server.http, "POST", f"/v2/models/{NAME}/infer", head + data, headers)
    return status, body.decode(errors="replace")


def test_what_is_not_packed_well_is_refused(server: Server, client: Client, clip: np.ndarray) -> None:
    from lcve_deploy.protocol.binding import binding_to_parameters

    clips = encrypted(client, clip)
    parameters = binding_to_parameters(clips.binding)
    data = pack(clips.values, clips.binding.geometry)
    assert post(server, data, parameters)[0] == 200
    flipped = data[:100] + bytes([data[100] ^ 4]) + data[101:]
    for bad, words in (
        (data[:-1], "cut off"),
        (flipped, "checksum"),
        (b"", "packed clips"),
        (data * 65, "1 to"),
        (bytes(1000), "there is none"),
    ):
        status, text = post(server, bad, parameters)
        assert (status, words in text) == (400, True), text
    status, text = post(server, data, parameters, name="clips")
    assert (status, "expected one input, packed" in text) == (400, True)


def test_a_sealed_request_with_another_number_of_clips_is_refused(
    server: Server, client: Client, clip: np.ndarray, sealing: Path
) -> None:
    clips = encrypted(client, clip)
    to = SealingPublicKey.read(sealing / "serve.pub")
    data = pack(clips.values, clips.binding.geometry)
    request = seal_request(data, clips=2, binding=clips.binding, to=to, model=NAME)
    status, text = post(server, request.data, {}, name="sealed")
    assert (status, "expected 2 clips" in text) == (400, True)


# The command line


def test_the_command_line_end_to_end(server: Server, clip: np.ndarray, key: SecurityKey, tmp_path: Path) -> None:
    oracle = ORACLES["v1_module_learnable"]
    key.write(tmp_path / "key.bin")
    np.save(tmp_path / "clip.npy", clip)
    service, client = tmp_path / "service", ("--key", tmp_path / "key.bin", "--client", tmp_path / "service/client")
    run_ok(
        *("export", "--key", tmp_path / "key.bin", "--ckpt", oracle.path, "-o", service, *oracle.flags),
        *("--wire", "dct", "--salt", SALT.hex(), "--stride", 1),
    )
    for quality in ("fine", "small"):
        run_ok("encrypt", tmp_path / "clip.npy", *client, "--quality", quality, "-o", tmp_path / f"{quality}.lcve")
    sizes = [(tmp_path / f"{quality}.lcve").stat().st_size for quality in ("fine", "small")]
    assert sizes[1] < sizes[0] < clip.size
    assert "quantisation step 6" in run_ok("inspect", tmp_path / "fine.lcve")
    run_ok("run", service / "server", tmp_path / "fine.lcve", "--logits-out", tmp_path / "logits.npy")
    run_ok("run", service, tmp_path / "clip.npy", "--key", tmp_path / "key.bin", "--quality", "20")
    run_ok("run", server.address(), tmp_path / "fine.lcve", *client)
    run_ok("run", server.address("http"), tmp_path / "clip.npy", *client, "--quality", "fine", "--pad", 4096)
    text = run_error("run", service / "server", tmp_path / "fine.lcve", "--pad", 4096)
    assert "--pad" in text
    assert "only for a server" in text
    run_ok("decrypt", tmp_path / "fine.lcve", "--key", tmp_path / "key.bin", "-o", tmp_path / "back.npy")
    back = np.load(tmp_path / "back.npy")
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - clip).mean() < 3


def test_a_quality_without_use_or_out_of_range_is_refused(
    exported: Path, artifact: Path, clip: np.ndarray, key: SecurityKey, tmp_path: Path
) -> None:
    key.write(tmp_path / "key.bin")
    np.save(tmp_path / "clip.npy", clip)
    where = ("--key", tmp_path / "key.bin", "-o", tmp_path / "a.lcve")
    for folder, quality, words in (
        (exported, "fine", "have no quality"),
        (artifact, "1000", "expected a step from"),
        (artifact, "nan", "expected a step from"),
        (artifact, "best", "expected fine, normal, small"),
    ):
        given = ("encrypt", tmp_path / "clip.npy", "--client", folder / "client", "--quality", quality, *where)
        assert words in " ".join(run_error(*given).split())
    assert not (tmp_path / "a.lcve").exists()


def test_a_scheme_that_cannot_be_exported_is_refused(key: SecurityKey, tmp_path: Path) -> None:
    key.write(tmp_path / "key.bin")
    oracle = ORACLES["v1_module_learnable"]
    given = ("export", "--key", tmp_path / "key.bin", "--ckpt", oracle.path, "-o", tmp_path / "a", *oracle.flags)
    assert "has the layout cubes" in " ".join(run_error(*given, "--wire", "dct", "--layout", "video").split())


def test_triton_is_told_that_it_cannot_unpack(artifact: Path, tmp_path: Path) -> None:
    text = run_error("triton", f"model={artifact / 'server'}", "-o", tmp_path / "repository")
    assert "no plain Triton can unpack" in " ".join(text.split())


def test_python_classifies_with_a_step(artifact: Path, clip: np.ndarray, key: SecurityKey) -> None:
    plain = PlainClip(values=clip)
    fine, small = (classify(plain, artifact, key=key, step=step).logits for step in (2.0, 40.0))
    assert not np.array_equal(fine, small)
    with pytest.raises(LcveError, match="expected a step"):
        classify(plain, artifact, key=key, step=999.0)


def test_the_remote_session_checks_its_records(client: Client, clip: np.ndarray) -> None:
    with RemoteSession("grpc://localhost:1/m", client.settings.binding) as session:
        clips = encrypted(client, clip)
        for values in (clips.values[0], clips.values[None], clips.values[:0]):
            with pytest.raises(ValueError, match="expected"):
                session.run(EncryptedClip(values=values, binding=clips.binding))
