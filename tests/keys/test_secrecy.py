"""Nothing of the old order, and nothing of a secret, is in what the operator gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lcve_deploy import SecurityKey, derive_orders
from lcve_deploy.artifact.names import KEYED, PROBE
from tests.conftest import GEOMETRY, ORACLES, SALT, SECRET
from tests.keys.helpers import NEW_KEY, NEW_SALT, enrolled, main, rotated
from tests.support.artifacts import contents
from tests.test_boundaries import HEAVY
from tests.test_export import export_tiny


@pytest.mark.parametrize("name", ["v1_module_learnable", "v1_first_token", "hf_vivit"])
def test_nothing_of_the_old_order_is_left(name: str, key: SecurityKey, tmp_path: Path) -> None:
    artifact = export_tiny(tmp_path / "old", key, ORACLES[name], salt=SALT)
    out = rotated(artifact, tmp_path / "new", key, new_key=NEW_KEY, salt=NEW_SALT)
    old = load_file(main(artifact) / KEYED)
    before = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    after = derive_orders(NEW_KEY, salt=NEW_SALT, geometry=GEOMETRY)
    prefix = len(old["positional_encoding"]) - GEOMETRY.cubes
    data = b"".join(contents(out).values())
    # A row and the next, side by side as in the old file.
    for rows, first, second in (
        (old["positional_encoding"][prefix:], before.cube_order, after.cube_order),
        (old["cube_embedding.weight"], before.pixel_order, after.pixel_order),
    ):
        by_chance = int((np.diff(np.argsort(first)[second]) == 1).sum())
        seen = sum(rows[i : i + 2].tobytes() in data for i in range(len(rows) - 1))
        assert seen == by_chance
        assert sum(row.tobytes() in data for row in rows) == len(rows)  # the search itself works
    for tensor in ("cube_embedding.weight", "positional_encoding", "head.weight", "head.bias"):
        assert old[tensor].tobytes() not in data
    for secret in (SALT, SALT.hex().encode(), key.key_id.encode(), bytes.fromhex(key.key_id), SECRET):
        assert secret not in data
    relative = np.argsort(before.cube_order)[after.cube_order]
    for order in (before.cube_order, after.cube_order, relative, np.argsort(relative)):
        for dtype in ("u1", "<u2", "<u4", "<i8"):
            assert order.astype(dtype).tobytes()[:64] not in data
    probe = load_file(main(artifact) / PROBE)
    assert probe["clip"].tobytes() not in data
    assert probe["logits"].tobytes() not in data


def test_the_operators_side_of_a_camera_has_no_secret(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    camera = enrolled(exported, tmp_path / "camera", key)
    data = b"".join(contents(camera / "server").values()) + b"".join(contents(camera / "client").values())
    for secret in (key, key.derive("camera-7")):
        hidden = secret.to_bytes()[8:40]
        assert hidden not in data
        assert hidden.hex().encode() not in data
    assert key.key_id.encode() not in data
    assert b"camera-7" not in data


def test_all_keys_of_a_model_are_related(key: SecurityKey, tmp_path: Path) -> None:
    """No forward secrecy: without a key, equal rows show how the orders of two keys lie to each other."""
    artifact = export_tiny(tmp_path / "old", key, ORACLES["v1_first_token"], salt=SALT)
    out = rotated(artifact, tmp_path / "new", key, new_key=NEW_KEY, salt=NEW_SALT)
    old, new = load_file(main(artifact) / KEYED), load_file(out / "server" / KEYED)
    before = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=5)
    after = derive_orders(NEW_KEY, salt=NEW_SALT, geometry=GEOMETRY, classes=5)
    assert before.label_order is not None
    for name, first, second in (
        ("positional_encoding", before.cube_order, after.cube_order),
        ("cube_embedding.weight", before.pixel_order, after.pixel_order),
        ("head.bias", before.label_order, after.label_order),
    ):
        places = {row.tobytes(): place for place, row in enumerate(old[name])}
        relation = [places[row.tobytes()] for row in new[name]]
        np.testing.assert_array_equal(first[relation], second)


def test_the_model_and_its_probe_are_under_no_key(key: SecurityKey, tmp_path: Path) -> None:
    """The probe of the model has tensors of a key that nobody has, and asks what that of the first key asks."""
    artifact = export_tiny(tmp_path / "service", key, ORACLES["v1_module_learnable"], salt=SALT)
    model, mine = load_file(artifact / "server" / PROBE), load_file(main(artifact) / KEYED)
    for name, tensor in mine.items():
        np.testing.assert_array_equal(np.sort(model[f"bank.{name}"], axis=None), np.sort(tensor, axis=None))
        assert not np.array_equal(model[f"bank.{name}"], tensor)
    first = load_file(main(artifact) / PROBE)
    assert not np.array_equal(first["clip"], model["clip"])
    np.testing.assert_array_equal(np.sort(first["logits"]), np.sort(model["logits"]))


WITHOUT = """
import sys
from lcve_deploy import SecurityKey, enroll, rotate
for name in {blocked!r}:
    sys.modules[name] = None
key = SecurityKey.read(sys.argv[1])
rotate(sys.argv[2], sys.argv[3] + "/rotated", key=key)
enroll(sys.argv[2], "camera-7", sys.argv[3] + "/camera", key=key)
"""


def test_making_keys_needs_no_heavy_library(exported: Path, key_file: Path, tmp_path: Path) -> None:
    program = WITHOUT.format(blocked=(*HEAVY, "openvino", "click", "array_api_compat"))
    command = [sys.executable, "-c", program, str(key_file), str(exported), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["camera", "rotated"]
