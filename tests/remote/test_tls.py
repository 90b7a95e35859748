"""TLS."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import RemoteOptions, RemoteSession
from lcve_deploy.errors import (
    DeniedError,
    UnavailableError,
)
from tests.remote.helpers import BINDING, QUICK, Server, clips
from tests.support.fake_server import logits_of
from tests.support.tls import Authority

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all


def _secure(server: Server) -> str:
    return server.address.replace("://", "s://", 1)


def test_tls_with_roots_of_ones_own(start: Callable[..., Server], authority: Authority) -> None:
    server = start(pem=authority.server)
    trusting = dataclasses.replace(QUICK, tls_ca=authority.ca)
    with RemoteSession(_secure(server), BINDING, trusting) as session:
        np.testing.assert_array_equal(session.run(clips()), logits_of(clips().values))
    for options in (QUICK, dataclasses.replace(QUICK, tls_ca=authority.folder / "stranger.pem")):
        with RemoteSession(_secure(server), BINDING, options) as session, pytest.raises(DeniedError) as caught:
            session.run(clips())
        assert caught.value.hint
    assert len(server.model.infers) == 1


def test_mutual_tls(start: Callable[..., Server], authority: Authority) -> None:
    server = start(pem=dataclasses.replace(authority.server, ca=authority.ca))
    known = RemoteOptions(
        **{
            **dataclasses.asdict(QUICK),
            "tls_ca": authority.ca,
            "tls_cert": authority.client.cert,
            "tls_key": authority.client.key,
        }
    )
    with RemoteSession(_secure(server), BINDING, known) as session:
        session.run(clips())
    nobody = dataclasses.replace(known, tls_cert=None, tls_key=None, deadline=5)
    with RemoteSession(_secure(server), BINDING, nobody) as session, pytest.raises((DeniedError, UnavailableError)):
        session.run(clips())
    assert len(server.model.infers) == 1


def test_files_that_are_no_certificates_are_refused_at_once(
    start: Callable[..., Server], authority: Authority, tmp_path: Path
) -> None:
    scheme = _secure(start()).partition(":")[0]
    (tmp_path / "rubbish.pem").write_text("rubbish")
    every: list[dict[str, Any]] = [
        {"tls_ca": tmp_path / "rubbish.pem"},
        {"tls_cert": authority.client.cert, "tls_key": authority.server.key},
        {"tls_cert": authority.client.cert, "tls_key": tmp_path / "rubbish.pem"},
    ]
    for changes in every:
        with pytest.raises(DeniedError):
            RemoteSession(f"{scheme}://localhost:1/m", BINDING, dataclasses.replace(QUICK, **changes))
    with pytest.raises(FileNotFoundError):
        RemoteSession(f"{scheme}://localhost:1/m", BINDING, dataclasses.replace(QUICK, tls_ca=tmp_path / "no.pem"))


def test_tls_where_there_is_none_is_an_error(server: Server) -> None:
    options = dataclasses.replace(QUICK, deadline=5)
    with RemoteSession(_secure(server), BINDING, options) as session, pytest.raises((DeniedError, UnavailableError)):
        session.run(clips())
