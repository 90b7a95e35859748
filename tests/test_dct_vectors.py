"""The package against docs/reference/dct-vectors.json, which another program wrote: see second_packer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import ClipFile, ClipGeometry, EncryptedClip, Layout, Orders, PlainClip, SecurityKey, Views, encrypt
from lcve_deploy.cipher.clips import binding_of
from lcve_deploy.clipfile import read_clip_file
from lcve_deploy.clips import COEFFICIENTS, STEP, Scheme, coefficient_record
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.packing import pack, random_records, unpack
from tests.support import second_packer
from tests.test_vectors import digest

VECTORS: dict[str, Any] = json.loads(second_packer.VECTORS.read_text(encoding="utf-8"))
SALT = bytes.fromhex(VECTORS["salt"])


def orders_of(geometry: str, classes: int | None = None) -> Orders:
    key = SecurityKey(bytes.fromhex(VECTORS["secret"]))
    return derive_orders(key, salt=SALT, geometry=ClipGeometry.parse(geometry), classes=classes, scheme=Scheme.DCT)


def record_of(said: dict[str, Any]) -> np.ndarray:
    record = np.zeros(1, coefficient_record(ClipGeometry.parse(said["geometry"])))
    record[STEP], record[COEFFICIENTS] = said["step"], said["encrypted"]
    return record


def test_the_file_is_what_the_second_implementation_writes() -> None:
    assert second_packer.VECTORS.read_text(encoding="utf-8") == second_packer.text()


def test_the_second_implementation_knows_nothing_of_the_package() -> None:
    assert "lcve_deploy" not in Path(second_packer.__file__).read_text(encoding="utf-8").split('"""', 2)[2]


def test_orders_and_signs() -> None:
    said = VECTORS["orders"]
    orders = orders_of(said["geometry"], said["classes"])
    assert orders.label_order is not None
    assert orders.signs is not None
    assert digest(orders.cube_order) == said["K1"]
    assert digest(orders.pixel_order) == said["K2"]
    assert digest(orders.label_order) == said["K3"]
    assert orders.signs[:12].tolist() == said["signs"]["begins"]
    assert hashlib.sha256(orders.signs.tobytes()).hexdigest() == said["signs"]["sha256"]


def test_a_clip_is_encrypted_to_these_coefficients() -> None:
    said = VECTORS["clip"]
    orders = orders_of(said["geometry"])
    plain = np.frombuffer(bytes.fromhex(said["plain_hex"]), np.uint8).reshape(orders.geometry.clip_shape)
    record = encrypt(PlainClip(values=plain), orders, step=said["step"]).values
    np.testing.assert_array_equal(record[COEFFICIENTS], said["encrypted"])


@pytest.mark.parametrize("name", ["packed_hex", "padded_hex"])
def test_packed_clips_are_read(name: str) -> None:
    said = VECTORS["packed"]
    geometry = ClipGeometry.parse(said["geometry"])
    assert unpack(bytes.fromhex(said[name]), geometry, clips=1).tobytes() == record_of(said).tobytes()


def test_the_second_implementation_reads_what_is_packed_here() -> None:
    said = VECTORS["packed"]
    geometry = ClipGeometry.parse(said["geometry"])
    for record in (record_of(said), random_records(geometry, 1)):
        step, rows = second_packer.unpacked(pack(record, geometry), said["geometry"])
        assert step == record[STEP]
        np.testing.assert_array_equal(rows, record[COEFFICIENTS][0])


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.lcve").write_bytes(bytes.fromhex(VECTORS["clip_file"]["file_hex"]))
    said, content = VECTORS["packed"], read_clip_file(tmp_path / "a.lcve")
    expected = ClipFile(
        clip=EncryptedClip(values=record_of(said), binding=binding_of(orders_of(said["geometry"]), Layout.CUBES)),
        views=Views(),
    )
    assert content.clip.values.tobytes() == expected.clip.values.tobytes()
    assert (content.clip.binding, content.views) == (expected.clip.binding, expected.views)
