"""What must hold before a clip is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lcve_deploy import EncryptedClip, Layout, RemoteSession
from lcve_deploy.errors import (
    MismatchError,
    SessionError,
)
from tests.conftest import GEOMETRY
from tests.remote.helpers import BINDING, QUICK, Server, clips, other, set_to
from tests.support.fake_server import Model

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all


@pytest.mark.parametrize(
    ("field", "value"),
    [("key_id", "c" * 32), ("salt", "c" * 32), ("layout", Layout.VIDEO), ("scheme", "lcve-2")],
)
def test_a_server_with_another_binding_gets_no_clip(start: Callable[..., Server], field: str, value: Any) -> None:
    server = start(Model(other(**{field: value})))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        for ask in (session.connect, lambda: session.run(clips())):
            with pytest.raises(MismatchError, match=field.replace("_", " ")):
                ask()
    assert server.model.infers == []


def test_a_clip_of_another_binding_is_refused_without_a_server() -> None:
    with RemoteSession("grpc://localhost:1/m", BINDING, QUICK) as session:
        with pytest.raises(MismatchError, match="key id"):
            session.run(clips(binding=other(key_id="c" * 32)))
        for values in (np.zeros((0, *BINDING.layout.shape(GEOMETRY)), np.uint8), clips().values[0], clips().values / 2):
            with pytest.raises(ValueError, match="expected"):
                session.run(EncryptedClip(values=values, binding=BINDING))


def test_a_server_that_names_no_binding_is_compared_by_its_shapes(start: Callable[..., Server]) -> None:
    server = start(Model(BINDING, bound=False))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        assert session.connect().bound is False
        session.run(clips())
    video = other(layout=Layout.VIDEO)
    with RemoteSession(server.address, video, QUICK) as session, pytest.raises(MismatchError, match="inputs"):
        session.run(clips(binding=video))


@pytest.mark.parametrize(
    ("which", "path", "value"),
    [
        ("metadata", "name", "letters"),
        ("metadata", "inputs.0.name", "images"),
        ("metadata", "inputs.0.datatype", "FP32"),
        ("metadata", "inputs.0.shape.1", 7),
        ("metadata", "inputs.add", None),
        ("metadata", "inputs.clear", None),
        ("metadata", "outputs.0.name", "scores"),
        ("metadata", "outputs.0.datatype", "FP64"),
        ("metadata", "outputs.0.shape.1", -1),
        ("metadata", "outputs.0.shape.clear", None),
        ("metadata", "outputs.add", None),
        ("metadata", "outputs.clear", None),
        ("config", "name", "letters"),
        ("config", "max_batch_size", 0),
        ("config", "max_batch_size", -1),
        ("config", "input.0.data_type", 11),
        ("config", "input.0.data_type", 99),
        ("config", "input.0.dims.0", 7),
        ("config", "output.0.dims.0", 4),
        ("config", "output.clear", None),
    ],
)
def test_a_server_with_another_model_gets_no_clip(
    start: Callable[..., Server], which: str, path: str, value: Any
) -> None:
    server = start()
    setattr(server.model, f"change_{which}", set_to(path, value))
    with (
        RemoteSession(server.address, BINDING, QUICK) as session,
        pytest.raises((MismatchError, SessionError)) as error,
    ):
        session.run(clips())
    assert server.model.infers == []
    assert server.model.described == 1
    assert "127.0.0.1" in str(error.value)


def test_half_a_binding_is_none(start: Callable[..., Server]) -> None:
    server = start()
    server.model.change_config = lambda config: config.parameters.pop("lcve_salt")
    with RemoteSession(server.address, BINDING, QUICK) as session, pytest.raises(MismatchError, match="lcve_salt"):
        session.run(clips())
