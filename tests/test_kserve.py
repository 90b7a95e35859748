"""KServe's own clients, unmodified, against ``lcve serve``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tests.support.servers import NAME, Example, Server, make_example, request, serving

ENVIRONMENT: Final = Path(__file__).parents[1] / ".venv-kserve"
"""Made by ``make kserve``."""
SECONDS: Final = 120.0
BOTH: Final = pytest.mark.parametrize("protocol", ["HTTP", "gRPC"])


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server", clips=2)


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[Server]:
    with serving(exported / "server") as server:
        yield server


@pytest.fixture(scope="module")
def said(server: Server, example: Example, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What its clients returned or raised, by protocol and question."""
    if not [*ENVIRONMENT.glob("lib/python3.*/site-packages/kserve")]:
        if sys.version_info < (3, 14):
            pytest.fail("KServe's clients are not installed; install them: make kserve", pytrace=False)
        pytest.skip("this version of KServe's clients needs Python before 3.14")
    clips = tmp_path_factory.mktemp("kserve") / "clips.npy"
    np.save(clips, example.clip.values)
    addresses = (f"{server.host}:{server.http}", f"{server.host}:{server.grpc}")
    program = ENVIRONMENT / "bin/python"
    command: list[str | Path] = [program, Path(__file__).parent / "kserve/ask.py", *addresses, NAME, clips]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@BOTH
def test_kserve_reads_the_health_of_server_and_models(said: dict[str, Any], protocol: str) -> None:
    answers = said[protocol]
    assert [answers[question] for question in ("live", "ready", "model ready")] == [True, True, True]
    assert answers["unknown model ready"] is False


@BOTH
@pytest.mark.parametrize("form", ["binary", "JSON"])
def test_kserve_gets_the_right_logits(said: dict[str, Any], example: Example, protocol: str, form: str) -> None:
    answer = said[protocol][form]
    assert (answer["id"], answer["model"][0], answer["name"]) == ("a request", NAME, "logits")
    np.testing.assert_allclose(np.array(answer["logits"], np.float32), example.logits, atol=1e-5)


@BOTH
def test_kserve_raises_with_the_reason(said: dict[str, Any], protocol: str) -> None:
    kind = {"HTTP": "HTTPStatusError", "gRPC": "AioRpcError"}[protocol]
    for question, reason in (("unknown model", f"the server has: {NAME}"), ("bad input", "expected one input, clips")):
        assert said[protocol][question]["raised"] == kind
        assert reason in said[protocol][question]["text"]


def test_health_is_a_body_and_a_status(server: Server) -> None:
    """As the protocol states it, and as the orchestrators that read only the status expect."""
    for path, body in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        (f"/v2/models/{NAME}/ready", {"name": NAME, "ready": True}),
        (f"/v2/models/{NAME}/versions/1/ready", {"name": NAME, "ready": True}),
    ):
        status, text = server.get(path)
        assert (status, json.loads(text)) == (200, body)
    for path in ("/v2/models/none/ready", f"/v2/models/{NAME}/versions/2/ready"):
        status, text = server.get(path)
        assert (status, json.loads(text)) == (400, {"name": path.split("/")[3], "ready": False, "error": "not ready"})
    assert request(server.host, server.metrics, "GET", "/v2/health/ready") == (200, b'{"ready": true}')
