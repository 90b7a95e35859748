"""What a PyTorch file may ask for, instruction by instruction, and the bounds of each limit."""

from __future__ import annotations

import argparse
import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcve_deploy.exporters.checkpoints import pickles
from lcve_deploy.exporters.checkpoints.pickles import check_torch_file, inert_classes, is_archive

BEGIN, END = b"\x80\x02", b"."
NOTHING = BEGIN + b"N" + END
PICKLE = "archive/data.pkl"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def archive(place: Path, records: Mapping[str, bytes], *, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(place / "x.pth", "w") as target:
        for name, content in records.items():
            target.writestr(name, content)
        target.comment = comment
    return place / "x.pth"


def checked(place: Path, code: bytes) -> None:
    """Check a file with this pickle, of either format."""
    whole = BEGIN + code + END
    check_torch_file(archive(place, {PICKLE: whole}))
    (place / "legacy.pth").write_bytes(NOTHING * 4 + whole)
    check_torch_file(place / "legacy.pth")


def refused(place: Path, code: bytes, message: str) -> None:
    whole = BEGIN + code + END
    with pytest.raises(pickle.UnpicklingError, match=message):
        check_torch_file(archive(place, {PICKLE: whole}))
    (place / "legacy.pth").write_bytes(NOTHING * 4 + whole)
    with pytest.raises(pickle.UnpicklingError, match=message):
        check_torch_file(place / "legacy.pth")


def test_the_limits() -> None:
    assert pickles.MAX_PICKLE_BYTES == 67_108_864
    assert pickles.MAX_INSTRUCTIONS == 524_288
    assert pickles.MAX_RECORDS == 131_072


@pytest.mark.parametrize("new", [False, True])
def test_what_training_scripts_save_passes(tmp_path: Path, new: bool) -> None:
    content = {
        "model": {"w": torch.nn.Parameter(torch.ones(2, 3)), "h": torch.ones(2, dtype=torch.bfloat16)},
        "args": argparse.Namespace(path=Path("x"), rate=np.float64(0.5), sizes=(1, 2), names={"a"}),
        "optimizer": {"state": {i: {"step": torch.tensor(i)} for i in range(20)}},
    }
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    check_torch_file(tmp_path / "x.pth")
    assert is_archive(tmp_path / "x.pth") is new


def test_what_follows_the_pickles_of_a_legacy_file_is_data(tmp_path: Path) -> None:
    (tmp_path / "legacy.pth").write_bytes(NOTHING * 5 + b"cos\nsystem\n")
    check_torch_file(tmp_path / "legacy.pth")
    (tmp_path / "legacy.pth").write_bytes(NOTHING * 4)
    with pytest.raises(ValueError, match="pickle exhausted"):
        check_torch_file(tmp_path / "legacy.pth")


@pytest.mark.parametrize(
    "name",
    [
        "torch float32",
        "torch bfloat16",
        "torch uint8",
        "torch bool",
        "torch complex64",
        "torch FloatStorage",
        "torch Size",
        "collections OrderedDict",
        "numpy.core.multiarray scalar",
        "pathlib PosixPath",
        "pathlib._local WindowsPath",
    ],
)
def test_names_that_are_harmless(tmp_path: Path, name: str) -> None:
    checked(tmp_path, f"c{name.replace(' ', chr(10))}\n".encode())


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "torch load",
        "torch TypedStorage",
        "torch UntypedStorage",
        "torch FloatTensor",
        "pathlib Path",
        "os PosixPath",
        "numpy float32",
        "numpy FloatStorage",
        "builtins eval",
        "collections deque",
    ],
)
def test_names_that_are_not(tmp_path: Path, name: str) -> None:
    refused(tmp_path, f"c{name.replace(' ', chr(10))}\n".encode(), f"Unsupported global: {name.replace(' ', '.')}")


ENCODE = b"c_codecs\nencode\n"


def test_bytes_are_encoded_as_latin1_alone(tmp_path: Path) -> None:
    checked(tmp_path, ENCODE + text("x") + text("latin1") + b"\x86R")
    checked(tmp_path, b"ctorch\nSize\n" + text("x") + text("idna") + b"\x86R")
    refused(
        tmp_path, ENCODE + text("latin1") + text("idna") + b"\x86R", "bytes in the encoding 'idna', expected latin1"
    )
    refused(tmp_path, ENCODE + text("x") + b"\x85R", "bytes in the encoding 'x', expected latin1")
    refused(tmp_path, ENCODE + text("y" * 300) + b"\x85R", f"bytes in the encoding '{'y' * 80}', expected latin1")
    refused(tmp_path, ENCODE + b"(" + text("x") + text("idna") + b"tR", "bytes in the encoding 'idna'")
    refused(tmp_path, ENCODE + b"q\x01" + text("x") + text("idna") + b"\x86q\x000h\x01h\x00R", "in the encoding 'idna'")
    refused(tmp_path, ENCODE + b"r\x01\0\0\0" + text("x") + text("idna") + b"\x860j\x01\0\0\0)R", "in the encoding ''")


def nested(depth: int) -> bytes:
    """Lists within lists."""
    return b"]" * depth + b"a" * (depth - 1)


def test_values_within_values_have_a_limit(tmp_path: Path) -> None:
    checked(tmp_path, nested(500))
    refused(tmp_path, nested(501), "nested values")
    checked(tmp_path, b")" + b"\x85" * 499)
    refused(tmp_path, b")" + b"\x85" * 500, "nested values")
    checked(tmp_path, b"(" * 499 + b"l" + b"l" * 498)
    refused(tmp_path, b"(" * 501 + b"l" + b"l" * 500, "nested values")


def test_a_long_list_is_not_a_deep_one(tmp_path: Path) -> None:
    checked(tmp_path, b"]" + b"Na" * 1000)
    checked(tmp_path, b"](" + b"N" * 1000 + b"e")
    checked(tmp_path, b"}" + b"".join(text(str(i)) + b"Ns" for i in range(1000)))
    checked(tmp_path, b"}(" + b"".join(text(str(i)) + b"N" for i in range(1000)) + b"u")


@pytest.mark.parametrize(
    "put", ["]%ba", "](%be", "}N%bs", "}(N%bu", "}%bNs", "}(%bNu", "(%bl", "(%bt", "(N%bd", "ctorch\nSize\n%b\x85R"]
)
def test_what_is_deep_stays_deep_in_another_value(tmp_path: Path, put: str) -> None:
    checked(tmp_path, put.encode("latin1") % nested(400))
    refused(tmp_path, put.encode("latin1") % nested(500), "nested values")


def doubled(times: int, *, get: bytes = b"q\x00h\x00h\x00") -> bytes:
    """A tuple of twice the last one, and so on."""
    return b")" + (get + b"\x86") * times


@pytest.mark.parametrize("get", [b"q\x00h\x00h\x00", b"r\x00\x01\0\0j\x00\x01\0\0j\x00\x01\0\0", b"q\xffh\xffh\xff"])
def test_values_that_come_to_very_many_have_a_limit(tmp_path: Path, get: bytes) -> None:
    checked(tmp_path, doubled(19, get=get))
    refused(tmp_path, doubled(20, get=get), "nested values")


def test_large_values_add_up(tmp_path: Path) -> None:
    large = doubled(18) + b"q\x00"
    checked(tmp_path, large + b"]h\x00ah\x00a")
    refused(tmp_path, large + b"](h\x00h\x00h\x00e", "nested values")
    refused(tmp_path, large + b"}Nh\x00sK\x01h\x00sK\x02h\x00s", "nested values")


def test_long_pickles_may_have_more_values(tmp_path: Path) -> None:
    check_torch_file(archive(tmp_path, {PICKLE: BEGIN + b"N0" * 35_000 + doubled(20) + END}))


def test_instructions_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", 100)
    checked(tmp_path, b"N0" * 49 + b"N")  # with its beginning and its end, 101
    refused(tmp_path, b"N0" * 50, "more than 100 instructions")


@pytest.mark.parametrize("code", [b"0N", b"q\x00N", b"h\x07", b"aN", b"tN", b"RN", b"\x86", b"uN"])
def test_instructions_that_take_more_than_there_is_are_left_to_torch(tmp_path: Path, code: bytes) -> None:
    checked(tmp_path, code)


def test_an_archive_has_one_pickle_of_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for names in (["a.pkl", "b.pkl"], ["a.pkl", "b.PKL"], ["a.txt"]):
        with pytest.raises(zipfile.BadZipFile, match="pickles in an archive, expected one of at most"):
            check_torch_file(archive(tmp_path, dict.fromkeys(names, NOTHING)))
    monkeypatch.setattr(pickles, "MAX_PICKLE_BYTES", len(NOTHING))
    check_torch_file(archive(tmp_path, {PICKLE: NOTHING}))
    with pytest.raises(
        zipfile.BadZipFile, match=f"1 pickles in an archive, expected one of at most {len(NOTHING)} byt"
    ):
        check_torch_file(archive(tmp_path, {PICKLE: BEGIN + b"N0N" + END}))


def test_records_have_a_limit_and_a_name_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_RECORDS", 3)
    check_torch_file(archive(tmp_path, {PICKLE: NOTHING, "a": b"", "b": b""}))
    with pytest.raises(zipfile.BadZipFile, match="4 records, expected at most 3"):
        check_torch_file(archive(tmp_path, {PICKLE: NOTHING, "a": b"", "b": b"", "c": b""}))
    with pytest.raises(zipfile.BadZipFile, match="2 records, expected at most 3 with distinct names"):
        check_torch_file(archive(tmp_path, {PICKLE: NOTHING, PICKLE.upper(): b""}))


def test_names_can_be_shown(tmp_path: Path) -> None:
    with pytest.raises(zipfile.BadZipFile, match="record names that are not printable"):
        check_torch_file(archive(tmp_path, {PICKLE: NOTHING, "a\x1b": b""}))
    path = archive(tmp_path, {PICKLE: NOTHING, "abc": b""})
    path.write_bytes(path.read_bytes().replace(b"abc", b"a\0c"))
    with pytest.raises(zipfile.BadZipFile, match="record names that are not printable"):
        check_torch_file(path)


def test_nothing_stands_around_an_archive(tmp_path: Path) -> None:
    with pytest.raises(zipfile.BadZipFile, match="bytes after the end"):
        check_torch_file(archive(tmp_path, {PICKLE: NOTHING}, comment=b"more"))
    path = archive(tmp_path, {PICKLE: NOTHING})
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0")
    with pytest.raises(zipfile.BadZipFile):
        check_torch_file(path)
    path.write_bytes(b"PK\x03\x04" + whole)
    with pytest.raises(zipfile.BadZipFile, match="bytes before the archive"):
        check_torch_file(path)
    with pytest.raises(zipfile.BadZipFile):
        _written(path, b"PK\x03\x04")


def _written(path: Path, content: bytes) -> None:
    path.write_bytes(content + bytes(100))
    check_torch_file(path)


def test_records_are_not_compressed(tmp_path: Path) -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as target:
        target.writestr(PICKLE, NOTHING)
        target.writestr("archive/x", bytes(100), compress_type=zipfile.ZIP_DEFLATED)
    (tmp_path / "x.pth").write_bytes(memory.getvalue())
    with pytest.raises(zipfile.BadZipFile, match="compressed records"):
        check_torch_file(tmp_path / "x.pth")


INERT: dict[str, Any] = {entry[1]: entry[0] for entry in inert_classes() if isinstance(entry, tuple)}
KIND, SCALAR, PATH = INERT["numpy.dtype"], INERT["numpy._core.multiarray.scalar"], INERT["pathlib.PosixPath"]


@pytest.mark.parametrize("kind", ["f8", "<f4", "i8", "u1", "?", "float64", "bool", "int32"])
def test_numbers_are_those_of_their_bytes(kind: str) -> None:
    value = np.array(1, kind)[()]
    made = SCALAR(KIND(kind, False, True), value.tobytes())
    assert (made, made.dtype) == (value, value.dtype)


def test_a_number_may_be_in_the_other_byte_order() -> None:
    for order in "<>":
        kind = KIND("i4", False, True)
        kind.__setstate__((3, order, None, None, None, -1, -1, 0))
        assert SCALAR(kind, np.array(258, f"{order}i4").tobytes()) == 258
    for state in ((3,), (3, "|"), "<>", None, (3, "=")):
        kind = KIND(">i4")
        kind.__setstate__(state)
        assert SCALAR(kind, np.array(258, ">i4").tobytes()) == 258
    kind = KIND("i4")
    kind.__setstate__((3, ">"))
    assert SCALAR(kind, np.array(258, ">i4").tobytes()) == 258


@pytest.mark.parametrize("kind", ["O", "U4", "c8", "M8", "V1", "S4", "float64 ", "longdouble", 8, None])
def test_other_kinds_are_no_numbers(kind: object) -> None:
    with pytest.raises(ValueError, match="a NumPy value that is not a number"):
        KIND(kind)


@pytest.mark.parametrize(
    ("kind", "data"), [("f8", bytes(7)), ("f8", bytes(9)), ("f8", b""), ("f8", "12345678"), (None, bytes(8))]
)
def test_a_number_is_as_long_as_its_kind(kind: str | None, data: object) -> None:
    with pytest.raises(ValueError, match="does not have the size of its dtype"):
        SCALAR(KIND(kind) if kind else np.dtype("f8"), data)


def test_paths_are_texts() -> None:
    assert PATH("a", "b", "c") == "a/b/c"
    assert PATH() == ""
    with pytest.raises(ValueError, match="a part that is not a string"):
        PATH("a", 1)


def test_every_class_of_paths_is_known_by_both_modules() -> None:
    modules = {name.rpartition(".")[0] for name, made in INERT.items() if made is PATH}
    assert modules == {"pathlib", "pathlib._local"}
    assert argparse.Namespace in inert_classes()


@pytest.mark.parametrize(
    ("content", "zipped"), [(b"PK\x03\x04", True), (b"PK\x03", False), (b"", False), (b"xPK\x03\x04", False)]
)
def test_an_archive_is_known_by_how_it_begins(tmp_path: Path, content: bytes, zipped: bool) -> None:
    (tmp_path / "x").write_bytes(content)
    assert is_archive(tmp_path / "x") is zipped


@pytest.mark.parametrize("before", [b"N", b"NN", b"]"])
def test_limits_hold_for_a_value_behind_others(tmp_path: Path, before: bytes) -> None:
    refused(tmp_path, before + nested(501), "nested values")
    refused(tmp_path, before + doubled(20), "nested values")
