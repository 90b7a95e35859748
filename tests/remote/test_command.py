"""The command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import Binding, Client, SecurityKey
from tests.conftest import ORACLE, run_error, run_lcve, run_ok
from tests.remote.helpers import TOKEN, Server, free_port
from tests.support.fake_server import Model, logits_of

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all


def test_run_with_an_address_reads_the_servers_logits(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    server = start(Model(served))
    clip, sides = tmp_path / "clip.lcve", ("--key", key_file, "--client", exported / "client")
    run_ok("encrypt", ORACLE / "clip_8x32x32.npy", *sides, "-o", clip)
    shown = json.loads(run_ok("run", server.address, ORACLE / "clip_8x32x32.npy", *sides, "--json"))
    assert len(shown["predictions"]) == 5
    run_ok("run", server.address, clip, "--logits-out", tmp_path / "logits.npy")
    assert json.loads(run_ok("read", tmp_path / "logits.npy", *sides, "--json"))["predictions"] == shown["predictions"]
    assert json.loads(run_ok("run", server.address, clip, *sides, "--json"))["predictions"] == shown["predictions"]
    assert "position" in run_ok("run", server.address, clip)


def test_run_sends_views_one_by_one(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    server = start(Model(served))
    frames = tmp_path / "video.npy"
    np.save(frames, np.load(ORACLE / "clip_8x32x32.npy"))
    client = Client.open(exported / "client", SecurityKey.read(key_file))
    from lcve_deploy import ClipFile, PlainClip, Views, write_clip_file

    stack = client.encrypt(PlainClip(values=np.random.default_rng(0).integers(0, 256, (6, 8, 32, 32, 3), np.uint8)))
    write_clip_file(tmp_path / "clip.lcve", ClipFile(clip=stack, views=Views(temporal=3, spatial=2)))
    run_ok("run", server.address, tmp_path / "clip.lcve", "--logits-out", tmp_path / "logits.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), logits_of(stack.values))
    assert len(server.model.infers) == 6


def test_errors_of_run_with_an_address(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    server = start(Model(served, token=TOKEN))
    clip, sides = ORACLE / "clip_8x32x32.npy", ("--key", key_file, "--client", exported / "client")
    for arguments, words in (
        ((*sides, "--engine", "fastest"), "--engine: only for an artifact"),
        ((*sides, "--provider", "cpu"), "--provider: only for an artifact"),
        ((*sides, "--threads", "2"), "--threads: only for an artifact"),
        (sides[:2], "together"),
        ((), "encrypted clip"),
        ((*sides, "--tls-cert", "a.pem"), "only one of them"),
        ((*sides, "--tls-ca", "a.pem"), "TLS"),
        ((*sides, "--token-file", tmp_path / "none"), "No such file"),
        (sides, "denied access"),
    ):
        error = run_error("run", server.address, clip, *arguments, "--logits-out", tmp_path / "out.npy")
        assert words in error
    for option in (("--deadline", "3"), ("--shared-memory",), ("--token-file", "t"), ("--client", "c")):
        assert f"{option[0]}: only for" in run_error("run", exported, clip, "--key", key_file, *option)
    assert "expected the address" in run_error("run", "grpc://localhost:1", clip, *sides)
    away = run_error("run", f"grpc://127.0.0.1:{free_port()}/m", clip, *sides, "--retries", "0")
    assert "not available" in away
    assert not (tmp_path / "out.npy").exists()
    assert server.model.infers == []


def test_a_pin_of_the_machine_is_no_error_with_an_address(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    """It is for the files of artifacts; named on the command line it is a mistake."""
    from lcve_deploy import SigningKey

    pin = tmp_path / "signing.pub"
    SigningKey.create().write(tmp_path / "signing.pem")
    server = start(Model(served))
    arguments = ("run", server.address, ORACLE / "clip_8x32x32.npy", "--key", key_file, "--client", exported / "client")
    if pin.exists():
        import click.testing

        from lcve_deploy.cli import lcve

        result = click.testing.CliRunner(env={"LCVE_SIGNED_BY": str(pin)}).invoke(lcve, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        assert "--signed-by: only for an artifact" in run_error(*arguments, "--signed-by", pin)


def test_the_commands_without_a_key_load_no_key_room(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    from tests.test_boundaries import OPERATOR, key_rooms_in, loaded_after

    server, clip = start(Model(served)), tmp_path / "clip.lcve"
    run_lcve("encrypt", ORACLE / "clip_8x32x32.npy", "--key", key_file, "--client", exported / "client", "-o", clip)
    modules = loaded_after(OPERATOR, "run", server.address, clip)
    assert not key_rooms_in(modules)
    assert not modules & {"torch", "transformers", "onnxruntime", "cryptography", "av"}
