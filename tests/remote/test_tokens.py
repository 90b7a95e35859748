"""Tokens."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from lcve_deploy import RemoteOptions, RemoteSession
from lcve_deploy.errors import (
    DeniedError,
)
from lcve_deploy.remote.token import PlainTokenWarning, Token
from tests.remote.helpers import BINDING, QUICK, TOKEN, Server, clips
from tests.support.fake_server import Model

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all


def _token_file(folder: Path, text: str = f"{TOKEN}\n") -> Path:
    path = folder / "token"
    path.write_text(text)
    return path


def test_a_token_is_sent_with_every_request(
    start: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(Model(BINDING, token=TOKEN))
    from_file = dataclasses.replace(QUICK, token_file=_token_file(tmp_path))
    with RemoteSession(server.address, BINDING, from_file) as session:
        session.run(clips())
    monkeypatch.setenv("LCVE_TOKEN", TOKEN)
    with RemoteSession(server.address, BINDING, QUICK) as session:
        session.run(clips())
    assert {headers["authorization"] for headers in server.model.seen_headers} == {f"Bearer {TOKEN}"}


def test_a_token_is_shown_nowhere(
    start: Callable[..., Server], tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even where the server repeats it."""
    caplog.set_level(logging.DEBUG)
    server = start(Model(BINDING, token=TOKEN[::-1]))
    options = dataclasses.replace(QUICK, token_file=_token_file(tmp_path))
    with RemoteSession(server.address, BINDING, options) as session:
        with pytest.raises(DeniedError, match=r"\[token\]") as caught:
            session.run(clips())
        shown = [repr(session), str(session), repr(options), repr(caught.value), caught.value.hint, repr(Token(TOKEN))]
        with pytest.raises(TypeError):
            pickle.dumps(session)
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(Token(TOKEN))
    shown += [caplog.text, *capfd.readouterr()]
    assert not any(TOKEN in text or TOKEN[4:20] in text for text in shown)


@pytest.mark.parametrize("text", ["", "\n", "two words", f"{TOKEN}\n{TOKEN}", "naïve", "a" * 9000])
def test_a_file_that_holds_no_token_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    options = RemoteOptions(token_file=_token_file(tmp_path, text))
    with pytest.raises(DeniedError, match="token") as caught:
        RemoteSession("grpc://localhost:1/m", BINDING, options)
    assert not text.strip() or text[:5] not in str(caught.value)


def test_a_token_without_tls_is_warned_of_but_on_this_machine(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    options = RemoteOptions(token_file=_token_file(tmp_path))
    RemoteSession("grpc://localhost:1,127.0.0.1:2/m", BINDING, options).close()
    RemoteSession("grpcs://example.org:1/m", BINDING, options).close()
    assert not [w for w in recwarn if w.category is PlainTokenWarning]
    with pytest.warns(PlainTokenWarning, match="without TLS"):
        RemoteSession("grpc://example.org:1/m", BINDING, options).close()
