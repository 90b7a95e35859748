"""Folders of today's families, with the outputs of transformers: imported, exported, and run on encrypted input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import Client, ExportOptions, PlainClip, SecurityKey, export, open_session
from lcve_deploy.clips import Layout
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.exporters.reference.transformers import reference_for
from tests.conftest import ORACLE

FOLDERS = ORACLE / "folders"
EXPECTED: dict[str, Any] = json.loads((FOLDERS / "expected.json").read_text())
NAMES = [name for name in EXPECTED if not name.startswith("_")]


def given(name: str) -> np.ndarray:
    values = np.load(FOLDERS / name / EXPECTED[name]["input"])
    return values if values.ndim == 4 else values[None]


def expected(name: str) -> np.ndarray:
    row = EXPECTED[name]
    return np.ravel(row["logits"] if "logits" in row else row["pooler_output"])


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_folder_computes_what_transformers_does(name: str) -> None:
    model = load_checkpoint(FOLDERS / name).model
    np.testing.assert_allclose(BuiltinReference(model).logits(given(name)[None])[0], expected(name), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_transformers_is_the_reference_of_an_imported_folder(name: str) -> None:
    pytest.importorskip("transformers")
    reference = reference_for(load_checkpoint(FOLDERS / name))
    assert reference.name.startswith("transformers")
    np.testing.assert_allclose(reference.logits(given(name)[None])[0], expected(name), atol=1e-6)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", NAMES)
def test_an_exported_folder_answers_encrypted_input(
    tmp_path: Path, key: SecurityKey, name: str, layout: Layout
) -> None:
    export(FOLDERS / name, tmp_path / "service", key=key, options=ExportOptions(layout=layout))
    client = Client.open(tmp_path / "service/client", key)
    encrypted = client.encrypt(PlainClip(values=given(name)[None]))
    answered = client.plain_order(open_session(tmp_path / "service/server").run(encrypted))[0]
    gap = np.abs(answered - expected(name)).max() / max(1.0, np.abs(expected(name)).max())
    assert gap < 1e-4
    assert gap < EXPECTED[name]["gap_when_rows_of_cubes_move"] / 10
