"""Sealed requests and answers, without a network."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lcve_deploy.errors import MismatchError, SealingError
from lcve_deploy.sealing import (
    Header,
    Kind,
    OpenedRequest,
    Replays,
    SealedRequest,
    SealingKey,
    SealingPublicKey,
    Suite,
    open_request,
    seal,
)
from lcve_deploy.sealing.envelope import info_of
from tests.sealing.helpers import BINDING, CLASSES, KEYS, OTHER, SIZE, SUITES, request, ring, vectors
from tests.support import second_sealer

KEY = KEYS[Suite.X25519]
LOGITS = bytes(range(4 * CLASSES))


def opened(data: bytes, key: SealingKey = KEY, **changes: Any) -> OpenedRequest:
    how: dict[str, Any] = {"binding": BINDING, "model": "actions", "version": "", **changes}
    return open_request(data, ring(key), how.pop("replays", None), **how)


def answer(question: SealedRequest, key: SealingKey = KEY) -> bytes:
    return opened(question.data, key).seal_answer(LOGITS, classes=CLASSES, version="1")


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("clips", [1, 2])
def test_clips_reach_the_server_and_logits_the_client(suite: Suite, clips: int) -> None:
    key = KEYS[suite]
    question = request(key, clips=clips)
    at_server = opened(question.data, key)
    assert (bytes(at_server.values), at_server.header.clips) == (bytes(range(SIZE)) * clips, clips)
    reply = at_server.seal_answer(LOGITS * clips, classes=CLASSES, version="3")
    read = question.open_answer(reply, classes=CLASSES)
    assert (read.logits, read.model, read.version) == (LOGITS * clips, "actions", "3")


@pytest.mark.parametrize("suite", SUITES)
def test_vectors_of_another_implementation_are_opened(suite: Suite) -> None:
    vector = vectors()[suite]
    at_server = opened(bytes.fromhex(vector["request"]["file_hex"]), KEYS[suite])
    assert at_server.values.hex() == vector["values_hex"]
    reply = SealingKey(suite, bytes.fromhex(vector["reply_secret"]))
    assert at_server.reply_to == reply.public_key
    question = SealedRequest(data=b"", header=at_server.header, key=reply)
    answered = question.open_answer(bytes.fromhex(vector["answer"]["file_hex"]), classes=CLASSES)
    assert answered.logits.hex() == vector["logits_hex"]


@pytest.mark.parametrize("suite", SUITES)
def test_another_implementation_opens_what_is_sealed_here(suite: Suite) -> None:
    question = request(KEYS[suite])
    header, content = second_sealer.open_(question.data, bytes(range(suite.secret_bytes)))
    assert content == question.key.public_key.raw + bytes(range(SIZE))
    assert header["id"] == question.header.id


def test_the_key_for_the_answer_is_not_in_the_clear() -> None:
    """Who knew it could make answers that the client opens."""
    for key in KEYS.values():
        question = request(key)
        assert question.key.public_key.raw[:32] not in question.data
        assert question.key.public_key.fingerprint.encode() not in question.data


def test_an_answer_by_anyone_else_is_refused() -> None:
    """Of one who saw the request, and so knows everything but the key for the answer."""
    question = request(KEY)
    forged = OpenedRequest(header=question.header, values=memoryview(b""), reply_to=SealingKey.create().public_key)
    with pytest.raises(SealingError, match="sealed to the key"):
        question.open_answer(forged.seal_answer(LOGITS, classes=CLASSES, version="1"), classes=CLASSES)
    true = Header.parse(second_sealer.header("answer", "x25519", bytes(32), id=question.header.id, model="actions",
                                             clips=1, version="1", classes=CLASSES))  # fmt: skip
    named = dataclasses.replace(true, recipient=question.key.public_key.fingerprint)
    with pytest.raises(SealingError, match="cannot be opened"):
        question.open_answer(seal(named, LOGITS, SealingKey.create().public_key), classes=CLASSES)


def test_an_answer_to_another_question_is_refused() -> None:
    first, second = request(KEY), request(KEY)
    with pytest.raises(SealingError, match="belongs to another request"):
        first.open_answer(answer(second), classes=CLASSES)
    reply = answer(first)
    asked_as_first = dataclasses.replace(second, header=dataclasses.replace(second.header, id=first.header.id))
    with pytest.raises(SealingError, match="sealed to the key"):
        asked_as_first.open_answer(reply, classes=CLASSES)


def test_a_flipped_bit_anywhere_in_an_answer_is_refused() -> None:
    question = request(KEY)
    reply = answer(question)
    for at in range(len(reply)):
        with pytest.raises((SealingError, MismatchError)):
            question.open_answer(reply[:at] + bytes([reply[at] ^ 1 << at % 8]) + reply[at + 1 :], classes=CLASSES)
    for cut in (reply[:-1], reply + b"\0", reply[:20], b"", question.data):
        with pytest.raises(SealingError):
            question.open_answer(cut, classes=CLASSES)
    with pytest.raises(SealingError, match="7 classes"):
        question.open_answer(reply, classes=7)


def test_a_flipped_bit_anywhere_in_a_request_is_refused() -> None:
    data = request(KEY).data
    for at in range(len(data)):
        with pytest.raises((SealingError, MismatchError)):
            opened(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "faces"}, "sealed for the model 'actions'"),
        ({"version": "2"}, "version 'any'; asked is 'actions', version '2'"),
        ({"binding": OTHER}, "salt"),
    ],
)
def test_a_request_for_another_model_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MismatchError, match=words):
        opened(request(KEY).data, **changes)


def test_a_request_to_another_server_is_refused() -> None:
    with pytest.raises(SealingError, match="and here is"):
        opened(request(KEY).data, SealingKey.create())


def test_two_keys_open_while_they_change_over() -> None:
    old, new = SealingKey.create(), SealingKey.create(Suite.HYBRID)
    for key in (old, new):
        question = request(key)
        open_request(question.data, ring(old, new), None, binding=BINDING, model="actions", version="")
    with pytest.raises(SealingError, match="here is"):
        open_request(request(old).data, ring(new), None, binding=BINDING, model="actions", version="")


def test_an_archive_is_no_request_and_a_request_no_archive() -> None:
    vector = vectors()[Suite.X25519]
    for kind in ("clip", "answer"):
        with pytest.raises(SealingError, match="expected a sealed request"):
            opened(bytes.fromhex(vector[kind]["file_hex"]))


def test_a_key_for_the_answer_that_is_none_is_refused() -> None:
    """Of a hostile client: a hybrid key that is no ML-KEM key, and an X25519 key of low order."""
    bad = b"\xff" * Suite.HYBRID.public_bytes
    key = KEYS[Suite.HYBRID]
    question = request(key)
    with pytest.raises(SealingError, match="not a public key"):
        opened(seal(question.header, bad + bytes(SIZE), key.public_key), key)
    low = request(KEY)
    at_server = opened(seal(low.header, bytes(32 + SIZE), KEY.public_key))
    with pytest.raises(SealingError, match="nothing can be sealed"):
        at_server.seal_answer(LOGITS, classes=CLASSES, version="1")


def test_nothing_is_sealed_to_a_key_of_low_order() -> None:
    with pytest.raises(SealingError, match="nothing can be sealed"):
        request(KEY, to=SealingPublicKey(suite=Suite.X25519, raw=bytes(32)))


def test_a_replay_is_refused() -> None:
    replays = Replays()
    question = request(KEY)
    at_server = opened(question.data, replays=replays)
    replays.remember(at_server.header.id, at_server.header.time)
    with pytest.raises(SealingError, match="accepted before"):
        opened(question.data, replays=replays)


def test_headers_have_room_for_long_names_and_no_more() -> None:
    assert opened(request(KEY, model="m" * 256).data, model="m" * 256)
    with pytest.raises(SealingError, match="at most 256 characters"):
        opened(request(KEY, model="m" * 257).data, model="m" * 257)
    assert Header.parse(request(KEY).header.to_bytes()).kind is Kind.REQUEST


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("kind", Kind)
def test_info_is_that_of_the_format(suite: Suite, kind: Kind) -> None:
    vector = vectors()[suite][kind]
    head = vector["header"].encode()
    assert Header.parse(head).to_bytes() == head
    assert info_of(BINDING, kind, head).hex() == vector["info_hex"]
    assert len(info_of(BINDING, kind, head)) == 76
