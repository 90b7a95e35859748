""".npy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fuzz.targets import SECRET
from lcve_deploy import SecurityKey
from lcve_deploy.client import Client
from lcve_deploy.errors import SessionError
from lcve_deploy.files import reading as inputs
from tests.fuzz.helpers import (
    ARRAYS,
    npy,
    refusal,
    seed,
)


@pytest.mark.parametrize("data", ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_are_none_are_refused(data: bytes) -> None:
    """Some were MemoryError, OverflowError, TypeError or zipfile.BadZipFile."""
    refusal("array", data)
    refusal("logits", data)


@pytest.mark.parametrize(
    "values",
    [
        *(np.zeros(4, kind) for kind in ("c8", "S4", "U1", "M8[s]", "m8[s]", "V3", "?,i4")),
        *(np.zeros(shape, np.float32) for shape in ((0,), (0, 5), (2, 0))),
    ],
    ids=str,
)
def test_an_array_is_one_of_numbers_and_has_some(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(SessionError, match=r"not a numeric array|expected 1 to \d+"):
        inputs.map_array(tmp_path / "a.npy", "an array", SessionError)


def test_logits_have_a_limit(tmp_path: Path) -> None:
    (tmp_path / "client.json").write_bytes(seed("client"))
    path = tmp_path / "logits.npy"
    header = npy("(100000000,5)")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 4 * 5 * 10**8)
    with pytest.raises(SessionError, match="at most"):
        Client.open(tmp_path, SecurityKey(SECRET)).read_logits(path)
