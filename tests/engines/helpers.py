"""What the tests in this folder share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lcve_deploy import Client, PlainClip, SecurityKey, SessionOptions, open_session
from lcve_deploy.artifact import EngineKind
from lcve_deploy.model.precision import Precision
from lcve_deploy.verbs.build import BuildOptions
from tests.conftest import ORACLES

TINY = ORACLES["v1_model_args"]
INT8 = BuildOptions(precision=Precision.INT8)
OPENVINO = BuildOptions(kind=EngineKind.OPENVINO)


def logits_of(artifact: Path, key: SecurityKey, clip: np.ndarray, engine: str) -> np.ndarray:
    client = Client.open(artifact / "client", key)
    session = open_session(artifact / "server", SessionOptions(engine=engine))
    return client.plain_order(session.run(client.encrypt(PlainClip(values=clip[None]))))[0]


def cpu_has(precision: Precision) -> bool:
    import openvino

    return precision.upper() in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
