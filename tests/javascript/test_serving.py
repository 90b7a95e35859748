"""``clients/js/`` and ``lcve serve``: the logits are those of a session on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import Client, PlainClip, SecurityKey, Views, open_session
from tests.javascript.test_exchange import client_json, python_file
from tests.support.node import JavaScriptClient, JavaScriptError, require_node
from tests.support.servers import Server, serving

TOKEN = "a-token-of-a-test-0123456789abcdef"


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require_node()
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"page {TOKEN}\n")
    tokens.chmod(0o600)
    with serving(exported / "server", "--tokens", tokens, "--max-batch", 2) as started:
        yield started


@pytest.fixture(scope="module")
def client(exported: Path, key_file: Path) -> Client:
    return Client.open(exported / "client", SecurityKey.read(key_file))


def test_logits_of_more_clips_than_a_batch(
    javascript: JavaScriptClient, server: Server, client: Client, exported: Path
) -> None:
    shape = client.settings.binding.geometry.clip_shape
    clips = np.random.default_rng(3).integers(0, 256, (5, *shape), dtype=np.uint8)
    received = javascript.call(
        "run",
        address=server.address("http"),
        token=TOKEN,
        settings=client_json(client),
        file=python_file(client, clips, Views(temporal=5)),
    )
    with_session = open_session(exported / "server").run(client.encrypt(PlainClip(values=clips)))
    np.testing.assert_allclose(np.reshape(received, with_session.shape), with_session, rtol=1e-5, atol=1e-5)


def test_a_wrong_token_and_a_clip_of_another_artifact(
    javascript: JavaScriptClient, server: Server, client: Client
) -> None:
    clips = np.zeros((1, *client.settings.binding.geometry.clip_shape), np.uint8)
    binding = dataclasses.replace(client.settings.binding, salt="0" * 32)
    settings = dataclasses.replace(client.settings, binding=binding)
    for token, of, kind in (("wrong", client.settings, "DeniedError"), (TOKEN, settings, "UnknownKeyError")):
        theirs = Client(settings=of, orders=client.orders)
        file = python_file(client, clips, Views())
        if of is settings:
            file = file.replace(client.settings.binding.salt.encode(), b"0" * 32)
        with pytest.raises(JavaScriptError) as refused:
            javascript.call("run", address=server.address("http"), token=token, settings=client_json(theirs), file=file)
        assert refused.value.kind == kind
        assert TOKEN not in str(refused.value)


def test_a_server_that_is_away(javascript: JavaScriptClient, client: Client) -> None:
    clips = np.zeros((1, *client.settings.binding.geometry.clip_shape), np.uint8)
    with pytest.raises(JavaScriptError) as refused:
        javascript.call(
            "run",
            address="http://127.0.0.1:9/model",
            settings=client_json(client),
            file=python_file(client, clips, Views()),
        )
    assert refused.value.kind == "UnavailableError"
