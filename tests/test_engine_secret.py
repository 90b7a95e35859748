"""The secret by which a machine knows its own engines: made once, private, outside of the server folder."""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
import pickle
import stat
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from lcve_deploy import SecurityKey
from lcve_deploy.artifact import engine_secret
from lcve_deploy.artifact.engine_secret import engine_secret_path, make_secret, read_secret
from lcve_deploy.errors import ExistsError, SessionError
from tests.conftest import SECRET, run_error


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default place, with nothing there."""
    monkeypatch.delenv("LCVE_ENGINE_SECRET")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/lcve-deploy/engine-secret"


def both_ways(path: Path) -> tuple[Callable[[], object], ...]:
    """What a session does, and what a build does."""
    return (lambda: read_secret(path), lambda: make_secret(path.parent / "server", path))


def test_it_is_made_once_and_private(place: Path, tmp_path: Path) -> None:
    assert read_secret() is None
    old = os.umask(0)
    try:
        made = make_secret(tmp_path / "server")
    finally:
        os.umask(old)
    assert made.path == place
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert place.read_text() == f"lcve-engine-secret-1 {made.raw.hex()}\n"
    assert len(made.raw) == 32
    assert make_secret(tmp_path / "server") == read_secret() == made
    assert [path.name for path in place.parent.iterdir()] == ["engine-secret"]


def test_no_two_are_alike(tmp_path: Path) -> None:
    assert make_secret(tmp_path / "s", tmp_path / "a").raw != make_secret(tmp_path / "s", tmp_path / "b").raw


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LCVE_ENGINE_SECRET", "named")
    assert engine_secret_path(Path("given")) == Path("given")
    assert engine_secret_path() == Path("named")
    for variable in ("", None):
        if variable is None:
            monkeypatch.delenv("LCVE_ENGINE_SECRET")
        else:
            monkeypatch.setenv("LCVE_ENGINE_SECRET", variable)
        monkeypatch.setenv("XDG_STATE_HOME", "relative")
        assert engine_secret_path() == tmp_path / ".local/state/lcve-deploy/engine-secret"
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "x"))
        assert engine_secret_path() == tmp_path / "x/lcve-deploy/engine-secret"


def test_without_a_home_folder_a_file_must_be_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(SessionError, match="no home folder") as caught:
        read_secret()
    assert "LCVE_ENGINE_SECRET=FILE" in caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o602, 0o610, 0o601, 0o620])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    make_secret(tmp_path / "server", path)
    path.chmod(mode)
    for work in both_ways(path):
        with pytest.raises(SessionError, match=rf"others can use the engine secret .* \(mode {mode:04o}\)") as caught:
            work()
        assert f"chmod 600 {path}" in caught.value.hint
    path.chmod(0o400)
    assert read_secret(path)


@pytest.mark.parametrize(
    ("owner", "mode", "ok"),
    [(0, 0o440, True), (0, 0o400, True), (0, 0o444, False), (0, 0o460, False), (0, 0o450, False), (7, 0o600, False)],
)
def test_a_file_of_root_may_be_mounted_for_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, ok: bool
) -> None:
    """As Kubernetes mounts a Secret; a file of any other user is refused."""
    path = tmp_path / "secret"
    make_secret(tmp_path / "server", path)
    status = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 0, 100, 0, 0, 0))
    monkeypatch.setattr("os.geteuid", lambda: 10001)
    monkeypatch.setattr("os.fstat", lambda _: status)
    if ok:
        assert read_secret(path)
    else:
        with pytest.raises(SessionError, match=r"others can use|belongs to the user 7"):
            read_secret(path)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-2],
    "longer": lambda data: data + b"0\n",
    "upper case": lambda data: data.upper(),
    "another version": lambda data: data.replace(b"secret-1", b"secret-2"),
    "an LCVE key": lambda data: SecurityKey(SECRET).to_bytes(),
}


@pytest.mark.parametrize("breakage", BROKEN.values(), ids=BROKEN)
def test_something_else_is_refused_and_never_replaced(tmp_path: Path, breakage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "secret"
    secret = make_secret(tmp_path / "server", path).raw.hex()
    content = breakage(path.read_bytes())
    path.write_bytes(content)
    for work in both_ways(path):
        with pytest.raises(SessionError, match="expected an engine secret, received something else") as caught:
            work()
        assert secret not in str(caught.value)
    assert path.read_bytes() == content


def test_a_pipe_or_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(SessionError, match=r"expected a file, received a (pipe|folder)"):
            read_secret(tmp_path / name)


def test_it_is_never_kept_in_the_server_folder(tmp_path: Path) -> None:
    server = tmp_path / "server"
    (server / "engines").mkdir(parents=True)
    (tmp_path / "link").symlink_to(server)
    for path in (server / "secret", server / "engines/secret", tmp_path / "link/secret"):
        with pytest.raises(SessionError, match="is in the server folder"):
            make_secret(server, path)
    assert sorted(path.name for path in server.rglob("*")) == ["engines"]


def test_where_nothing_can_be_kept_there_is_one_error(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a read-only file system: an engine that nobody could open later is not built."""
    with pytest.raises(SessionError, match=r"cannot keep an engine secret .* does not exist") as caught:
        make_secret(tmp_path / "server", tmp_path / "none/secret")
    assert "LCVE_ENGINE_SECRET=FILE" in caught.value.hint

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(SessionError, match=r"cannot make the folder .*: Read-only file system"):
        make_secret(tmp_path / "server")
    monkeypatch.setattr("tempfile.mkstemp", read_only)
    with pytest.raises(SessionError, match=r"cannot keep an engine secret .*: Read-only file system"):
        make_secret(tmp_path / "server", tmp_path / "secret")


def test_a_build_that_cannot_keep_it_leaves_nothing(artifact: Path, tmp_path: Path) -> None:
    error = run_error(
        "build", artifact / "server", "--runtime", "onnxruntime", "--engine-secret", tmp_path / "none/secret"
    )
    assert "cannot keep an engine secret on this machine" in error
    assert not (artifact / "server/engines").exists()


def _make(folder: Path) -> bytes:
    return make_secret(folder / "server", folder / "secret").raw


def test_builds_at_the_same_time_get_the_same_one(tmp_path: Path) -> None:
    with ProcessPoolExecutor(max_workers=4) as processes:
        made = set(processes.map(_make, [tmp_path] * 32))
    assert len(made) == 1
    known = read_secret(tmp_path / "secret")
    assert known
    assert made == {known.raw}
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_one_that_appears_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_secret(tmp_path / "server", tmp_path / "other")

    def slower(path: Path, **_: object) -> None:
        (tmp_path / "other").rename(path)
        raise ExistsError("it appeared")

    monkeypatch.setattr(engine_secret, "new_file", slower)
    assert make_secret(tmp_path / "server", tmp_path / "secret").raw == other.raw


def test_its_mac_is_hmac_sha256(tmp_path: Path) -> None:
    made = make_secret(tmp_path / "server", tmp_path / "secret")
    mac = hmac.new(made.raw, b"data", hashlib.sha256).hexdigest()
    assert made.mac(b"data") == mac
    assert made.holds(b"data", mac)
    assert not made.holds(b"Data", mac)
    assert not made.holds(b"data", mac.upper())
    assert not made.holds(b"data", "\u00e9")


def test_it_does_not_show_and_is_not_copied(tmp_path: Path) -> None:
    made = make_secret(tmp_path / "server", tmp_path / "secret")
    assert repr(made) == str(made) == f"EngineSecret(path={str(tmp_path / 'secret')!r})"
    for work in (lambda: pickle.dumps(made), lambda: copy.deepcopy(made)):
        with pytest.raises(TypeError, match="is not pickled"):
            work()
