"""The MAC of an engine's record: over every field of it, and of one machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from lcve_deploy.artifact.engine_mac import authenticate, is_own, require_own
from lcve_deploy.artifact.engine_secret import EngineSecret, make_secret
from lcve_deploy.artifact.engines import EngineKind, EngineRecord, read_engine
from lcve_deploy.errors import ForeignEngineError
from lcve_deploy.model.precision import Precision
from tests.test_engine_record import NAME, SHORT, WHOLE, written

SECRET = EngineSecret(raw=bytes(range(32)), path=Path("here"))
OTHER = EngineSecret(raw=bytes(32), path=Path("there"))


def test_it_is_the_one_of_the_format() -> None:
    """HMAC-SHA256 with the bytes 0 to 31, over the context and the JSON of the fields. Made with OpenSSL 3."""
    assert authenticate(SHORT, SECRET).mac == "390a56a5b65e755c74e71bd831eaa806dbe17b181236a0ba262b77d647099880"


@pytest.mark.parametrize("record", [SHORT, WHOLE], ids=["short", "whole"])
def test_a_record_that_is_read_back_is_ours(tmp_path: Path, record: EngineRecord) -> None:
    own = authenticate(record, SECRET)
    written(tmp_path, own)
    known = read_engine(tmp_path, NAME)
    assert known == own
    assert is_own(known, SECRET)
    assert not is_own(known, OTHER)
    assert not is_own(known, None)
    assert not is_own(record, SECRET)
    require_own(tmp_path, known, SECRET)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EngineRecord) if field.name != "mac"])
def test_every_field_counts(field: str) -> None:
    own = authenticate(WHOLE, SECRET)
    other = dataclasses.replace(
        WHOLE,
        name="x",
        kind=EngineKind.TENSORRT_RTX,
        precision=Precision.INT8,
        builder={"tensorrt": "10.8"},
        target="sm_80",
        manifest_sha256="ba" * 32,
        profile=None,
        options={"budget": "0.6"},
        ranges={"x": 0.5},
        files={},
        proof=WHOLE.proof and dataclasses.replace(WHOLE.proof, milliseconds=1.0),
        agreement=None,
    )
    assert getattr(other, field) != getattr(WHOLE, field)
    assert not is_own(dataclasses.replace(own, **{field: getattr(other, field)}), SECRET)
    assert is_own(own, SECRET)


def test_the_order_of_fields_in_the_file_does_not_count(tmp_path: Path) -> None:
    own = authenticate(WHOLE, SECRET)
    path = written(tmp_path, own)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert is_own(read_engine(tmp_path, NAME), SECRET)


@pytest.mark.parametrize(
    ("record", "secret", "reason"),
    [
        (SHORT, SECRET, "its record has no MAC"),
        (SHORT, None, "its record has no MAC"),
        (authenticate(SHORT, OTHER), None, "this machine has no engine secret"),
        (authenticate(SHORT, OTHER), SECRET, "the MAC of its record is not one of the engine secret here"),
    ],
)
def test_the_error_says_why_and_what_to_do(record: EngineRecord, secret: EngineSecret | None, reason: str) -> None:
    with pytest.raises(ForeignEngineError) as caught:
        require_own(Path("a server"), record, secret)
    message = f"the engine {NAME} was not made on this machine, or was changed since, and is not opened: {reason}"
    assert str(caught.value) == message
    assert caught.value.hint == (
        f"build it here: rm -r 'a server/engines/{NAME}' && lcve build 'a server' --runtime tensorrt "
        f"--precision fp16 --name {NAME}. Machines that share engines share the secret: LCVE_ENGINE_SECRET=FILE"
    )


def test_the_hint_names_a_provider_and_clips() -> None:
    record = dataclasses.replace(
        SHORT, kind=EngineKind.ONNXRUNTIME, precision=Precision.INT8, options={"provider": "cuda"}
    )
    with pytest.raises(ForeignEngineError) as caught:
        require_own(Path("s"), record, None)
    command = (
        "lcve build s --runtime onnxruntime --precision int8 --provider cuda --name tensorrt-fp16 --clip FILE.lcve"
    )
    assert command in caught.value.hint


def test_a_secret_of_the_machine_is_taken(tmp_path: Path) -> None:
    secret = make_secret(tmp_path / "server", tmp_path / "secret")
    assert is_own(authenticate(SHORT, secret), secret)
