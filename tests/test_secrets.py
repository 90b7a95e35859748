"""Neither a key nor an order shows: in what is printed, raised, logged, written, or seen of the process."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import pprint
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest

from lcve_deploy import (
    Client,
    EncryptedClip,
    ExportOptions,
    PlainClip,
    RotateOptions,
    SecurityKey,
    decrypt,
    export,
    read_clip_file,
    rotate,
    verify,
)
from lcve_deploy.artifact import read_key_manifest, read_manifest
from lcve_deploy.cli import lcve
from lcve_deploy.errors import LcveError
from lcve_deploy.keys.orders import derive_orders
from tests.conftest import GEOMETRY, ORACLE, ORACLES, heed_interrupts
from tests.support.artifacts import binding_of
from tests.support.planting import Planted, files_under

TINY = ORACLES["v1_model_args"]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@dataclass(frozen=True, kw_only=True)
class House:
    """A planted key, and all that the commands make with it."""

    planted: Planted
    folder: Path
    shown: tuple[str, ...]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def key_files(self) -> set[Path]:
        names = ("key.bin", "camera.bin", "new.bin", "wrong.bin", "damaged.bin", "long.bin")
        return {*(self / name for name in names), *self.folder.rglob("key.bin")}


FLOW = (
    "keygen --from KEY --name camera-7 -o camera.bin",
    "inspect KEY",
    "inspect KEY --json",
    "export --key KEY --ckpt TINY -o service --runtime onnxruntime",
    "export --key KEY --ckpt TINY -o machine --json",
    "inspect service",
    "verify service --key KEY --ckpt TINY",
    "verify service --key KEY --ckpt TINY --json",
    "encrypt clip.npy --key KEY --client service/client -o clip.lcve",
    "inspect clip.lcve",
    "decrypt clip.lcve --key KEY -o back.npy",
    "decrypt clip.lcve --key KEY -o back.png",
    "run service clip.npy --key KEY --logits-out plain.npy",
    "run service clip.lcve --key KEY --json",
    "run service/server clip.lcve --logits-out logits.npy",
    "read logits.npy --key KEY --client service/client",
    "read logits.npy --key KEY --client service/client --json",
    "build service/server --runtime onnxruntime --precision int8 --clip clip.lcve --budget 1",
    "rotate service --key KEY -o rotated",
    "rotate service --key new.bin -o refused",
    "rotate service --key KEY --new-key new.bin -o moved --json",
    "enroll service --key KEY --name camera-7 -o enrolled",
    "enroll service --key KEY --names names.txt -o cameras --json --verbose",
    "inspect enrolled",
    "inspect rotated/server",
    "apply service/server rotated/server moved/server enrolled cameras/camera-8 --json",
    "inspect service/server --json",
    "verify service/server",
    "export --key KEY --ckpt TINY -o again --embed-key again.onnx",
)
REFUSED = ("rotate service --key new.bin -o refused",)


def words(line: str, folder: Path) -> list[str]:
    """A command line; it runs in ``folder``."""
    named = line.replace("KEY", str(folder / "key.bin"))
    return named.replace("TINY", f"{TINY.path} {' '.join(TINY.flags)}").split()


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("house")
    # A line break in it: readers of text take lines, and may quote them.
    planted = Planted(
        key=SecurityKey(secrets.token_bytes(20) + b"\n" + secrets.token_bytes(11)), geometry=GEOMETRY, classes=5
    )
    planted.key.write(folder / "key.bin")
    for name in ("new.bin", "wrong.bin"):
        SecurityKey.create().write(folder / name)
    data = planted.key.to_bytes()
    for name, content in (("damaged.bin", data[:-1] + bytes([data[-1] ^ 1])), ("long.bin", data + b"\n")):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    shutil.copy(ORACLE / "clip_8x32x32.npy", folder / "clip.npy")
    (folder / "names.txt").write_text("camera-8\ncamera-9\n")
    with inside(folder):
        results = {line: click.testing.CliRunner().invoke(lcve, words(line, folder)) for line in FLOW}
    for line, result in results.items():
        assert (result.exit_code != 0) is (line in REFUSED), (line, result.output)
    for path in files_under(folder):
        if path.name == "key.json":
            planted.add_salt(bytes.fromhex(read_key_manifest(path.parent).binding.salt))
    return House(planted=planted, folder=folder, shown=tuple(result.output for result in results.values()))


# The search itself


def test_what_is_planted_is_found(house: House) -> None:
    """Every form, so that a search that finds nothing means something."""
    key, salt = house.planted.key, bytes.fromhex(binding_of(house / "service/server").salt)
    orders = derive_orders(key, salt=salt, geometry=GEOMETRY)
    secret = key.to_bytes()[8:40]
    for text in (secret.hex(), f"{secret!r}", f"{list(secret)}", json.dumps(orders.cube_order.tolist(), indent=2)):
        assert house.planted.in_text(text)
    for order in (orders.cube_order, np.argsort(orders.pixel_order).astype("<i4")):
        assert house.planted.in_text(f"{order}")
        assert house.planted.in_bytes(b"before" + order.tobytes())
    assert house.planted.in_bytes((house / "key.bin").read_bytes())


# What is printed, logged and written


def test_no_command_prints_a_secret(house: House) -> None:
    for shown in house.shown:
        assert not house.planted.in_text(shown)


def test_no_file_but_a_key_file_holds_a_secret(house: House) -> None:
    """Both sides of artifacts, engines, keys, encrypted and decrypted clips, logits, pictures."""
    paths = [path for path in files_under(house.folder) if path not in house.key_files]
    assert len(paths) > 40
    for path in paths:
        assert not house.planted.in_bytes(path.read_bytes()), path
        if path.suffix == ".json":
            assert not house.planted.in_text(path.read_text()), path


NOWHERE = "grpcs://127.0.0.1:1/model clip.npy --key KEY --client service/client"
ERRORS = (
    "run service clip.npy --key wrong.bin",
    "run service clip.npy --key damaged.bin",
    "run service clip.npy --key long.bin",
    "encrypt clip.npy --key damaged.bin --client service/client -o x.lcve",
    "decrypt clip.lcve --key wrong.bin -o x.npy",
    "decrypt clip.lcve --key damaged.bin -o x.npy",
    "read logits.npy --key damaged.bin --client service/client",
    "verify service --key wrong.bin --ckpt TINY",
    "verify service --key damaged.bin --ckpt TINY",
    "rotate service --key damaged.bin -o x",
    "rotate service --key KEY --new-key damaged.bin -o x",
    "keygen --from damaged.bin --name camera-8 -o x.bin",
    "keygen --from KEY --name Camera -o x.bin",
    "keygen --from KEY --name camera-8 -o key.bin",
    "keygen --from KEY --name camera-8 -o nowhere/x.bin",
    "inspect damaged.bin",
    "inspect long.bin",
    "export --key damaged.bin --ckpt TINY -o x",
    "export --key KEY --ckpt TINY -o x --tolerance 1e-12",
    "export --key KEY --ckpt TINY -o x --opset 9",
    "export --key KEY --ckpt TINY -o x --runtime onnxruntime --budget 1e-12",
    "verify service --key KEY --ckpt TINY --tolerance 1e-12",
    "run service clip.npy --key KEY --engine nothing",
    "run service clip.npy --key KEY --views 2x2",
    "read clip.npy --key KEY --client service/client",
    # The key file in the place of another
    "run key.bin clip.npy --key KEY",
    "run service key.bin --key KEY",
    "run service/server key.bin",
    "encrypt key.bin --key KEY --client service/client -o x.lcve",
    "encrypt clip.npy --key KEY --client key.bin -o x.lcve",
    "decrypt key.bin --key KEY -o x.npy",
    "read key.bin --key KEY --client service/client",
    "export --key KEY --ckpt key.bin -o x",
    "export --key KEY --ckpt TINY -o x --labels key.bin",
    "export --key KEY --ckpt TINY -o x --verify-clip key.bin",
    "verify key.bin",
    "verify service --key KEY --ckpt key.bin",
    "rotate key.bin --key KEY -o x",
    "apply service/server key.bin",
    "apply key.bin enrolled",
    "enroll service --key damaged.bin --name a -o x",
    "enroll service --key wrong.bin --name a -o x",
    "enroll service --key KEY --name A -o x",
    "enroll service --key KEY --names key.bin -o x",
    "enroll key.bin --key KEY --name a -o x",
    "convert service --key KEY -o x",
    "convert service --key damaged.bin -o x",
    "build service/server --runtime onnxruntime --precision int8 --clip key.bin --name x",
    "build key.bin --runtime onnxruntime",
    "audit service/server --reference key.bin -o x",
    "audit service/server --ciphertext key.bin -o x",
    "audit service/server --ciphertext clip.lcve --known-clip key.bin -o x",
    "audit service/server --other key.bin -o x",
    "audit service/server --key damaged.bin -o x",
    "audit service/server --key wrong.bin -o x",
    f"run {NOWHERE} --retries 0",
    f"run {NOWHERE} --token-file key.bin",
    f"run {NOWHERE} --tls-ca key.bin",
    f"run {NOWHERE} --tls-ca clip.npy --tls-cert key.bin --tls-key key.bin",
    "verify service/server --signed-by key.bin",
    "sign service/server --signing-key key.bin",
    "export --key KEY --ckpt TINY -o x --signing-key key.bin",
)


@pytest.mark.parametrize("line", ERRORS)
def test_no_error_of_a_command_shows_a_secret(house: House, line: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    before = set(house.folder.rglob("*"))
    with inside(house.folder):
        result = click.testing.CliRunner().invoke(lcve, words(line, house.folder))
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), result.output  # no traceback
    assert not house.planted.in_text(result.output)
    assert not house.planted.in_text("\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records))
    assert set(house.folder.rglob("*")) == before


LOCALS: dict[str, Callable[[House, Path], object]] = {
    "wrong key": lambda house, _: Client.open(house / "service/client", SecurityKey.read(house / "wrong.bin")),
    "another artifact": lambda house, _: rotate(house / "service", house / "x", key=SecurityKey.create()),
    "damaged key": lambda house, _: SecurityKey.read(house / "damaged.bin"),
    "longer key": lambda house, _: SecurityKey.read(house / "long.bin"),
    "name of a derived key": lambda house, _: house.planted.key.derive("Camera"),
    "output exists": lambda house, _: house.planted.key.write(house / "key.bin"),
    "output exists, export": lambda house, _: export(TINY.path, house / "service", key=house.planted.key),
    "clip of another size": lambda house, _: _client(house).encrypt(PlainClip(values=np.zeros((8, 16, 16, 3)))),
    "clip of another artifact": lambda house, _: decrypt(
        read_clip_file(house / "clip.lcve").clip,
        derive_orders(house.planted.key, salt=bytes(16), geometry=GEOMETRY),
    ),
    "logits of another size": lambda house, _: _client(house).plain_order(np.zeros(4)),
    "no logits": lambda house, _: _client(house).predict(np.zeros((0, 5))),
    "parity": lambda house, path: export(
        TINY.path, path / "x", key=house.planted.key, options=_tiny_options(tolerance=1e-12)
    ),
    "checkpoint": lambda house, _: verify(house / "service", key=house.planted.key, checkpoint=house / "key.bin"),
    "salt of before": lambda house, path: rotate(
        house / "service", path / "x", key=house.planted.key, options=RotateOptions(salt=_client(house).orders.salt)
    ),
}


def _client(house: House) -> Client:
    return Client.open(house / "service/client", house.planted.key)


def _tiny_options(**more: Any) -> ExportOptions:
    return ExportOptions(checkpoint=TINY.options, **more)


@pytest.mark.parametrize("name", LOCALS)
def test_tracebacks_with_locals_of_expected_errors_show_no_secret(house: House, name: str, tmp_path: Path) -> None:
    """As crash reporters send them, and as ``pytest --showlocals`` prints them."""
    client, key = _client(house), house.planted.key  # as in the frames of a user
    assert client.orders.key_id == key.key_id
    with pytest.raises((LcveError, ValueError)) as caught:
        LOCALS[name](house, tmp_path)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(told.format())
    assert "key = " in text
    assert not house.planted.in_text(text)


def test_a_missing_library_a_full_disk_and_an_interrupt(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(line: str) -> str:
        with inside(house.folder):
            result = click.testing.CliRunner().invoke(lcve, words(line, house.folder))
        assert isinstance(result.exception, SystemExit), result.output
        assert not house.planted.in_text(result.output)
        return result.output

    def fail(error: BaseException) -> Callable[..., None]:
        def failing(*_: object, **__: object) -> None:
            raise error

        return failing

    exporting = f"export --key KEY --ckpt TINY -o {tmp_path}/out"
    encrypting = f"encrypt clip.npy --key KEY --client service/client -o {tmp_path}/x.lcve"
    deriving = f"keygen --from KEY --name camera-9 -o {tmp_path}/x.bin"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        assert "not installed" in run(exporting)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail(OSError(28, "No space left on device")))
        making = (f"rotate service --key KEY -o {tmp_path}/out", f"enroll service --key KEY --name a -o {tmp_path}/out")
        for line in (exporting, encrypting, deriving, *making):
            assert "No space left" in run(line)
    with monkeypatch.context() as patch:
        patch.setattr("lcve_deploy.keys.orders._Draws.next", fail(KeyboardInterrupt()))
        for line in (exporting, encrypting):
            assert "Aborted!" in run(line)
    assert list(tmp_path.iterdir()) == []


# Values in Python


def _holders(house: House) -> dict[str, object]:
    client = _client(house)
    return {
        "SecurityKey": house.planted.key,
        "Orders": client.orders,
        "Client": client,
    }


def _others(house: House) -> dict[str, object]:
    client, clip = _client(house), read_clip_file(house / "clip.lcve")
    return {
        "EncryptedClip": EncryptedClip(values=clip.clip.values, binding=clip.clip.binding),
        "PlainClip": client.decrypt(clip.clip),
        "ClipFile": clip,
        "ClientSettings": client.settings,
        "Manifest": read_manifest(house / "service/server"),
    }


def test_no_value_shows_a_secret(house: House, tmp_path: Path) -> None:
    results = {
        "ExportResult": export(TINY.path, tmp_path / "a", key=house.planted.key, options=_tiny_options()),
        "RotateResult": rotate(house / "service", tmp_path / "b", key=house.planted.key),
    }
    for folder in ("a/server/keys/main", "b/server"):
        house.planted.add_salt(bytes.fromhex(read_key_manifest(tmp_path / folder).binding.salt))
    for name, value in {**_holders(house), **_others(house), **results}.items():
        # A list and a dictionary show the repr of what they hold.
        for text in (repr(value), str(value), f"{value}", f"{[value]}", f"{ ({'a': value}) }", pprint.pformat(value)):
            assert not house.planted.in_text(text), name
    for name, value in {**_others(house), **results}.items():
        assert not house.planted.in_text(repr(vars(value))), name
        assert not house.planted.in_bytes(pickle.dumps(value)), name
    assert not hasattr(house.planted.key, "__dict__")


@pytest.mark.parametrize("name", ["SecurityKey", "Orders", "Client"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_holds_a_secret_is_not_pickled(house: House, name: str, protocol: int) -> None:
    value = _holders(house)[name]
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(value, protocol)
    assert not house.planted.in_text(str(caught.value))
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(value)


# While it runs


def test_nothing_of_it_is_on_disk_while_an_artifact_is_made(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in what is staged nor in the folder for temporary files."""
    for folder in ("temporary", "out"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    seen, searched, salt = set(), set(), secrets.token_bytes(16)
    house.planted.add_salt(salt)

    def look(stage: str, done: int, total: int) -> None:
        for path in files_under(tmp_path):
            seen.add(path.name)
            data = path.read_bytes()
            if data not in searched:
                assert not house.planted.in_bytes(data), path
            searched.add(data)
        assert list((tmp_path / "temporary").iterdir()) == []

    export(TINY.path, tmp_path / "out/a", key=house.planted.key, options=_tiny_options(salt=salt), progress=look)
    rotate(house / "service", tmp_path / "out/b", key=house.planted.key, progress=look)
    assert {"model.onnx", "keyed.safetensors", "probe.safetensors"} <= seen


@pytest.mark.parametrize(
    "line",
    [
        "export --key KEY --ckpt TINY -o OUT --runtime onnxruntime",
        "build service/server --runtime onnxruntime --precision int8 --clip clip.lcve --budget 1 --name again",
        "run service clip.npy --key KEY",
        "verify service/server",
    ],
    ids=lambda line: line.split()[0],
)
def test_libraries_leave_nothing_at_home_and_report_nothing(house: House, tmp_path: Path, line: str) -> None:
    """ONNX Runtime keeps what it has not reported yet in the user's cache, and a session in the temporary folder."""
    places = {name: tmp_path / name for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")}
    for place in places.values():
        place.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    arguments = [str(tmp_path / "out") if word == "OUT" else word for word in words(line, house.folder)]
    subprocess.run(
        [sys.executable, "-c", "from lcve_deploy.cli import lcve; lcve()", *arguments],
        cwd=house.folder,
        env={**kept, **{name: str(place) for name, place in places.items()}},
        check=True,
        capture_output=True,
    )
    assert [path for place in places.values() for path in place.rglob("*")] == []


HOLDING = """
import time
from lcve_deploy.cli import main, show
def hold(*given, **more):
    print("held", flush=True)
    time.sleep(60)
show.print_classification = hold
{}
main.lcve()
"""


@contextmanager
def holding_a_key(house: House, folder: Path, change: str = "", **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """``lcve read`` that has read its key, has made the orders, and waits before it prints."""
    arguments = ["read", str(house / "logits.npy"), "--key", str(house / "key.bin")]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING.format(change), *arguments, "--client", str(house / "service/client")],
        **{"cwd": folder, "stdout": subprocess.PIPE, "preexec_fn": heed_interrupts, **more},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


@LINUX
def test_the_process_list_names_the_key_file_alone(house: House, tmp_path: Path) -> None:
    with holding_a_key(house, tmp_path) as process:
        for name in ("cmdline", "environ", "comm"):
            data = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert not house.planted.in_bytes(data)
            assert not house.planted.in_text(data.decode("latin-1"))
            assert (b"key.bin" in data) is (name == "cmdline")


@LINUX
def test_a_process_with_a_key_may_leave_no_core(house: House, tmp_path: Path) -> None:
    with holding_a_key(house, tmp_path) as process:
        about = Path(f"/proc/{process.pid}")
        limit = next(line for line in (about / "limits").read_text().splitlines() if line.startswith("Max core"))
        assert limit.split()[4] == "0"
        assert int((about / "coredump_filter").read_text(), 16) == 0


UNPROTECTED = "main.disable_core_dumps = lambda: open('/proc/self/coredump_filter', 'w').write('0x33')"


def _allow_cores() -> None:
    heed_interrupts()
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)


@LINUX
def test_a_crash_leaves_no_core_file(house: House, tmp_path: Path) -> None:
    def crash(folder: Path, change: str) -> bool:
        folder.mkdir()
        with holding_a_key(house, folder, change, preexec_fn=_allow_cores) as process:
            os.kill(process.pid, signal.SIGABRT)
            _, status = os.waitpid(process.pid, 0)
            process.returncode = -signal.SIGABRT
        assert os.WTERMSIG(status) == signal.SIGABRT
        return os.WCOREDUMP(status)

    assert crash(tmp_path / "as it is", "") is False
    assert list((tmp_path / "as it is").iterdir()) == []
    if not crash(tmp_path / "without", UNPROTECTED):
        pytest.skip("this machine writes no core files at all")
    for core in (tmp_path / "without").glob("*core*"):  # elsewhere, where a program collects them
        assert house.planted.is_in(core.read_bytes())
        core.unlink()
