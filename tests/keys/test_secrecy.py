"""Nothing of the old order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lcve_deploy import (
    RotateOptions,
    SecurityKey,
    derive_orders,
    rotate,
)
from lcve_deploy.artifact import match_rows, read_manifest
from lcve_deploy.artifact.keyed import KEYED, keyed_ranges, read_keyed
from tests.conftest import GEOMETRY, ORACLES, SALT, SECRET
from tests.rotate.helpers import (
    NEW_KEY,
    NEW_SALT,
    contents,
    delta_of,
    record_files_but_manifest,
)
from tests.test_export import export_tiny


@pytest.mark.parametrize("name", ["v1_module_learnable", "v1_first_token", "hf_vivit"])
def test_nothing_of_the_old_order_is_left(name: str, key: SecurityKey, tmp_path: Path) -> None:
    old_folder = export_tiny(tmp_path / "old", key, ORACLES[name], salt=SALT)
    rotate(old_folder, tmp_path / "new", key=key, options=RotateOptions(new_key=NEW_KEY, salt=NEW_SALT))
    delta = delta_of(old_folder, tmp_path / "delta", key, new_key=NEW_KEY, salt=NEW_SALT)
    old, places = read_keyed(old_folder / "server"), keyed_ranges(old_folder / "server" / KEYED)
    before = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    after = derive_orders(NEW_KEY, salt=NEW_SALT, geometry=GEOMETRY)
    prefix = len(old["positional_encoding"]) - GEOMETRY.cubes
    for data in (b"".join(contents(tmp_path / "new").values()), b"".join(contents(tmp_path / "delta").values())):
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
        probe = load_file(old_folder / "server/probe.safetensors")
        assert probe["clip"].tobytes() not in data
        assert probe["logits"].tobytes() not in data
    assert old_folder.is_dir()
    assert set(places) == set(keyed_ranges(delta))


def test_only_keyed_file_probe_and_manifest_change(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    before = contents(exported)
    rotate(exported, tmp_path / "out", key=key, options=RotateOptions(new_key=NEW_KEY))
    assert contents(exported) == before
    after = contents(tmp_path / "out")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"server/{KEYED}", "server/probe.safetensors", "server/manifest.json", "client/client.json"}
    assert set(after) == set(before)


def test_parity_is_carried_over_and_the_manifest_says_who_rotated(
    exported: Path, key: SecurityKey, tmp_path: Path
) -> None:
    result = rotate(exported, tmp_path / "out", key=key)
    old, new = read_manifest(exported / "server"), read_manifest(tmp_path / "out/server")
    assert new.parity == old.parity
    assert dict(new.made_by) == {**old.made_by, "lcve-deploy/rotate": old.made_by["lcve-deploy"]}
    assert new.files == record_files_but_manifest(tmp_path / "out/server")
    assert any("parity" in note for note in result.notes)


def test_whoever_has_both_artifacts_has_their_relation(key: SecurityKey, tmp_path: Path) -> None:
    """No forward secrecy: without a key, equal rows show how the two orders lie to each other."""
    old = export_tiny(tmp_path / "old", key, ORACLES["v1_first_token"], salt=SALT)
    rotate(old, tmp_path / "new", key=key, options=RotateOptions(new_key=NEW_KEY, salt=NEW_SALT))
    relation = match_rows(read_keyed(old / "server"), read_keyed(tmp_path / "new/server"), cubes=GEOMETRY.cubes)
    before = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=5)
    after = derive_orders(NEW_KEY, salt=NEW_SALT, geometry=GEOMETRY, classes=5)
    np.testing.assert_array_equal(before.cube_order[relation.cubes], after.cube_order)
    np.testing.assert_array_equal(before.pixel_order[relation.values], after.pixel_order)
    assert before.label_order is not None
    np.testing.assert_array_equal(before.label_order[relation.labels], after.label_order)
