"""Sealed clip files: what is read, and all that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcve_deploy import SealingKey, read_clip_file, write_clip_file
from lcve_deploy.errors import EncryptedClipError, LcveError, SealingError
from lcve_deploy.sealing import Header, Suite, open_sealed, read_envelope
from lcve_deploy.sealing.header import Kind
from tests.sealing.helpers import BINDING, KEYS, OTHER, SIZE, SUITES, content, vectors
from tests.support import second_sealer

KEY = KEYS[Suite.X25519]


def sealed_bytes(place: Path, key: SealingKey = KEY, views: int = 1) -> bytes:
    path = place / f"{key.suite}-{views}.lcve"
    path.unlink(missing_ok=True)
    write_clip_file(path, content(views), seal_to=key.public_key)
    return path.read_bytes()


def refusal(place: Path, data: bytes, key: SealingKey = KEY) -> LcveError:
    path = place / "damaged.lcve"
    path.write_bytes(data)
    with pytest.raises((SealingError, EncryptedClipError)) as caught:
        read_clip_file(path, open_with=key)
    assert "damaged.lcve" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("views", [1, 3])
def test_a_sealed_clip_opens_to_what_was_sealed(suite: Suite, views: int, tmp_path: Path) -> None:
    key = KEYS[suite]
    data = sealed_bytes(tmp_path, key, views)
    clip = read_clip_file(tmp_path / f"{suite}-{views}.lcve", open_with=key)
    np.testing.assert_array_equal(clip.clip.values, content(views).clip.values)
    assert (clip.views, clip.clip.binding) == (content(views).views, BINDING)
    header, opened = second_sealer.open_(data, bytes(range(suite.secret_bytes)))
    assert opened == content(views).clip.values.tobytes()
    assert header["kind"] == "clip"


@pytest.mark.parametrize("suite", SUITES)
def test_vectors_of_another_implementation_are_opened(suite: Suite, tmp_path: Path) -> None:
    vector = vectors()[suite]
    (tmp_path / "clip.lcve").write_bytes(bytes.fromhex(vector["clip"]["file_hex"]))
    clip = read_clip_file(tmp_path / "clip.lcve", open_with=SealingKey(suite, bytes.fromhex(vector["secret"])))
    assert clip.clip.values.tobytes().hex() == vector["values_hex"]


def test_sealing_hides_every_byte_of_the_clip(tmp_path: Path) -> None:
    data = sealed_bytes(tmp_path)
    assert content().clip.values.tobytes()[:16] not in data
    assert data != sealed_bytes(tmp_path)  # a fresh key inside, every time


@pytest.mark.parametrize("suite", SUITES)
def test_a_flipped_bit_anywhere_is_refused(suite: Suite, tmp_path: Path) -> None:
    data = sealed_bytes(tmp_path, KEYS[suite])
    for at in range(0, len(data), 1 if suite is Suite.X25519 else 7):
        refusal(tmp_path, data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :], KEYS[suite])


def test_a_file_that_was_cut_or_extended_is_refused(tmp_path: Path) -> None:
    data = sealed_bytes(tmp_path)
    for length in range(len(data)):
        refusal(tmp_path, data[:length])
    assert "truncated or extended" in str(refusal(tmp_path, data[:-1]))
    assert "truncated or extended" in str(refusal(tmp_path, data + b"\0"))
    assert "ends before its header" in str(refusal(tmp_path, data[:50]))


def test_parts_of_two_files_do_not_make_one(tmp_path: Path) -> None:
    """All are sealed to the same key; two have the same header, and the third has more views."""
    one, same, more = sealed_bytes(tmp_path), sealed_bytes(tmp_path), sealed_bytes(tmp_path, KEY, 2)
    head = 12 + int.from_bytes(one[8:12], "little")
    middle = head + 32 + 40
    for spliced in (
        one[:head] + more[head:],
        more[:head] + one[head:],
        one[: head + 32] + same[head + 32 :],
        one[:middle] + same[middle:],
    ):
        refusal(tmp_path, spliced)


def test_a_header_in_another_form_is_refused(tmp_path: Path) -> None:
    data = sealed_bytes(tmp_path)
    length = int.from_bytes(data[8:12], "little")
    head = json.loads(data[12 : 12 + length])
    forms: list[Callable[[], bytes]] = [
        lambda: json.dumps(head).encode(),
        lambda: json.dumps({**head, "more": 1}, sort_keys=True, separators=(",", ":")).encode(),
        lambda: json.dumps({**head, "views": 1}, sort_keys=True, separators=(",", ":")).encode(),
        lambda: b"[]",
        lambda: json.dumps({**head, "scheme": "\ufffd"}, sort_keys=True, separators=(",", ":")).encode(),
        lambda: b"\xff" * 20,
        lambda: json.dumps({**head, "format": "lcve-seal-2"}, sort_keys=True, separators=(",", ":")).encode(),
        lambda: data[12 : 12 + length].replace(b'"views"', b'"views":"1x1","views"'),
        lambda: b"[" * 4000,
    ]
    for form in forms:
        changed = form()
        refused = refusal(tmp_path, data[:8] + len(changed).to_bytes(4, "little") + changed + data[12 + length :])
        assert "header of the sealed data is invalid" in str(refused)


def test_a_header_that_says_more_than_there_is_costs_nothing(tmp_path: Path) -> None:
    assert "ends before its header" in str(refusal(tmp_path, b"LCVESEAL" + b"\xff" * 4 + bytes(100)))
    data = sealed_bytes(tmp_path)
    huge = data.replace(b"2x4x4x3/2x2x2", b"64x512x512x3/2x16x16")
    length = int.from_bytes(data[8:12], "little") + 7
    assert "truncated or extended" in str(refusal(tmp_path, huge[:8] + length.to_bytes(4, "little") + huge[12:]))


def test_another_key_does_not_open_it(tmp_path: Path) -> None:
    data = sealed_bytes(tmp_path)
    refused = refusal(tmp_path, data, SealingKey.create())
    assert KEY.public_key.fingerprint[:16] in str(refused)
    assert "private key of the public key" in refused.hint
    assert "sealed to the key" in str(refusal(tmp_path, data, KEYS[Suite.HYBRID]))


def test_without_a_key_a_sealed_clip_says_what_it_is(tmp_path: Path) -> None:
    sealed_bytes(tmp_path)
    with pytest.raises(EncryptedClipError, match="the clip is sealed to the key") as caught:
        read_clip_file(tmp_path / "x25519-1.lcve")
    assert "--open-with" in caught.value.hint


def test_a_clip_that_is_not_sealed_is_read_with_a_key_too(tmp_path: Path) -> None:
    write_clip_file(tmp_path / "plain.lcve", content())
    assert read_clip_file(tmp_path / "plain.lcve", open_with=KEY).views == content().views


def test_one_kind_is_never_opened_as_another(tmp_path: Path) -> None:
    vector = vectors()[Suite.X25519]
    for kind in ("request", "answer"):
        data = bytes.fromhex(vector[kind]["file_hex"])
        assert "expected a sealed clip" in str(refusal(tmp_path, data))
        head = vector[kind]["header"].encode()
        named = Header.parse(head)
        forged = Header(kind=Kind.CLIP, suite=named.suite, recipient=named.recipient, binding=BINDING).to_bytes()
        relabelled = data[:8] + len(forged).to_bytes(4, "little") + forged + data[12 + len(head) :]
        refusal(tmp_path, relabelled)


def test_it_opens_for_its_model_alone(tmp_path: Path) -> None:
    sealed = read_envelope(sealed_bytes(tmp_path), kind=Kind.CLIP)
    with pytest.raises(LcveError, match="salt"):
        open_sealed(sealed, KEY, binding=OTHER, size=SIZE)
    assert len(open_sealed(sealed, KEY, binding=BINDING, size=SIZE)) == SIZE


@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    refusal(tmp_path_factory.mktemp("any"), data)
    refusal(tmp_path_factory.mktemp("any"), b"LCVESEAL" + data)


def test_the_page_of_the_format_has_the_vectors() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/format.md").read_text()
    for suite, vector in vectors().items():
        assert f"| `{suite}` | `{vector['fingerprint']}` |" in page
        for kind in Kind:
            assert f"| `{suite}`, {kind} | `{vector[kind]['info_hex']}` |" in page
