"""Checkpoints."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.pickles import check_torch_file
from lcve_deploy.exporters.checkpoints.reading import read_pickled
from lcve_deploy.model.transformer import Normalisation, sinusoid_table
from tests.fuzz.helpers import (
    ASKING,
    ROOT,
    archive,
    number,
    read,
    refusal,
    saved,
    seed,
    text,
    weights,
)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("code", ASKING.values(), ids=ASKING)
def test_a_pickle_that_asks_for_too_much_is_refused(code: bytes, legacy: bool) -> None:
    """A hundred bytes took gigabytes, or for ever."""
    before = b"".join(pickle.dumps(part, 2) for part in tuple[Any, ...]((0x1950A86A20F9469CFC6C, 1001, {})))
    data = before + b"\x80\x02" + code + b"." + pickle.dumps([], 2) if legacy else archive(code)
    refusal("checkpoint", data)
    refusal("folder", b"b" + data)


def test_instructions_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lcve_deploy.exporters.checkpoints.pickles.MAX_INSTRUCTIONS", 1000)
    assert "instructions" in refusal("checkpoint", archive(b"N0" * 1000 + b"N"))


def test_records_that_are_compressed_are_refused() -> None:
    """A megabyte of zip was a gigabyte of pickle."""
    assert "compressed" in refusal("checkpoint", archive(text("a" * 10**6), compress=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("name", ["archive/DATA.PKL", "other/data.pkl", "data.pkl", "archivex/data.pkl"])
def test_no_record_escapes_the_check_by_its_name(name: str) -> None:
    data = archive(ASKING["bytes without end"], name=name).replace(b"archivex", b"archive\0")
    refusal("checkpoint", data)


def test_an_archive_with_bytes_around_it_is_refused() -> None:
    """Readers of zip files differ in which archive they would find."""
    whole = seed("checkpoint", "plain")
    refusal("checkpoint", whole + b"\0")
    refusal("checkpoint", whole + archive(b"N"))
    refusal("checkpoint", b"PK" + whole)


def test_a_pickle_does_not_escape_the_check_behind_the_end_of_an_archive() -> None:
    """torch tells an archive by its first bytes, Python by its last."""
    before = b"".join(pickle.dumps(part, 2) for part in tuple[Any, ...]((0x1950A86A20F9469CFC6C, 1001, {})))
    code = before + b"\x80\x02" + ASKING["bytes without end"] + b"." + pickle.dumps([], 2)
    refusal("checkpoint", code + archive(b"N"))


def test_numbers_of_numpy_are_read_as_they_were(tmp_path: Path) -> None:
    values = [np.float64(0.5), np.float32(-2), np.int64(7), np.int32(-7), np.bool_(True), np.uint8(200), np.float16(3)]
    values.append(np.array(0.25, ">f8")[()])
    (tmp_path / "a.pth").write_bytes(saved(values))
    read_back = read_pickled(tmp_path / "a.pth")
    assert [(type(value), value) for value in read_back] == [(type(value), value) for value in values]


def test_other_values_of_numpy_are_refused() -> None:
    for value in (np.str_("x"), np.datetime64("2026-01-01"), np.complex64(1), np.void(b"x")):
        refusal("checkpoint", saved({"model": weights(), "args": value}))


TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "repeats one value": lambda t: torch.zeros(1).expand(10**9, 1000),
    "complex": lambda t: t.to(torch.complex64),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.quint8),
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "float4": lambda t: torch.zeros(5, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    "meta": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse(),
    "csr": lambda t: torch.eye(5).to_sparse_csr(),
    "nested": lambda t: torch.nested.nested_tensor([t, t]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("make", TENSORS.values(), ids=TENSORS)
def test_tensors_that_hold_no_weights_are_refused(make: Callable[[torch.Tensor], torch.Tensor], legacy: bool) -> None:
    state = weights()
    try:
        data = saved({**state, "head.bias": make(state["head.bias"])}, legacy=legacy)
    except (AttributeError, RuntimeError, NotImplementedError, pickle.PicklingError, KeyError) as error:
        pytest.skip(f"this torch cannot save it: {error}")
    refusal("checkpoint", data)


def test_a_negated_view_is_read_by_its_values() -> None:
    """NumPy cannot take one as it is; it was a RuntimeError."""
    state = weights()
    negated = torch.complex(torch.zeros(5), torch.arange(5.0)).conj().imag
    assert negated.is_neg()
    model: Any = read("checkpoint", saved({**state, "head.bias": negated}))
    np.testing.assert_array_equal(model.model.weights["head.bias"], -np.arange(5.0))


def strided(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A checkpoint whose head bias is a view of another size than its storage."""
    whole = saved({**weights(), "head.bias": torch.as_strided(torch.arange(5.0), (5,), (1,))})
    with zipfile.ZipFile(io.BytesIO(whole)) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    code = entries[name]
    at = code.rindex(b"K\x05\x85q")  # the size, and after it the stride

    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(number(value) for value in values) + b"t"

    rest = code[at + 5 :]
    assert rest.startswith(b"K\x01\x85q")
    entries[name] = code[:at] + ints(size) + b"q\xf0" + ints(stride) + b"q\xf1" + rest[5:]
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as target:
        for entry, content in entries.items():
            target.writestr(entry, content)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("size", "stride"),
    [
        ((5,), (-1,)),
        ((6,), (1,)),
        ((2**40,), (1,)),
        ((2**62, 2**62), (0, 0)),
        ((5,), (2**62,)),
        ((-5,), (1,)),
        ((), (1,)),
    ],
)
def test_views_beyond_their_storage_are_refused(size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    refusal("checkpoint", strided(size, stride))


def test_methods_that_a_pickle_overwrites_are_not_called() -> None:
    """An OrderedDict takes attributes from a pickle; a text for "items" was a TypeError."""
    state = OrderedDict(weights())
    state.__dict__.update({"items": "x", "get": "x", "keys": "x", "__iter__": "x"})
    answer = read("checkpoint", archive(b"ccollections\nOrderedDict\n)R}" + text("items") + b"K\x01s" + b"b"))
    assert isinstance(answer, CheckpointError)
    refusal("folder", b"b" + archive(b"ccollections\nOrderedDict\n)R}" + text("items") + b"K\x01s" + b"b"))


def test_block_numbers_without_end_are_unexpected() -> None:
    """int() of thousands of digits is a ValueError."""
    name = f"blocks.{'1' * 5000}.norm1.weight"
    refusal("checkpoint", saved({**weights(), name: torch.zeros(6)}))


def test_a_width_of_zero_makes_no_model() -> None:
    state = weights()
    state["patch_embed.proj.weight"] = torch.zeros(0, 3, 2, 2, 2)
    assert "widths above zero" in refusal("checkpoint", saved(state))


CONFIGURATIONS = {
    "blocks": ("num_hidden_layers", 10**9),
    "image": ("image_size", 10**6),
    "frames": ("num_frames", 10**12),
    "width": ("hidden_size", 10**12),
    "mlp": ("intermediate_size", 10**18),
    "classes": ("id2label", {}),
    "tubelet": ("tubelet_size", [1, -1, 0]),
    "heads": ("num_attention_heads", 10**18),
}


@pytest.mark.parametrize(("name", "value"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_absurd_configurations_are_refused(name: str, value: object) -> None:
    config = {**json.loads(seed("folder", "config")[1:]), name: value, "num_labels": 10**18}
    refusal("folder", b"c" + json.dumps(config).encode())


def test_a_mean_without_channels_is_refused() -> None:
    """min() of nothing was a ValueError."""
    with pytest.raises(CheckpointError):
        Normalisation(mean=(), std=())


@pytest.mark.parametrize("shard", ["x" * 300, "a\0b", "..", ".", "", "/dev/zero", "config.json"])
def test_shards_that_are_no_weights_are_refused(shard: str) -> None:
    refusal("folder", b"i" + json.dumps({"weight_map": {"x": shard}}).encode())


def test_the_sinusoid_table_is_the_same_in_blocks() -> None:
    column, positions = np.arange(7), np.arange(2500)
    angle = positions[:, None] / np.power(10000.0, 2 * (column // 2) / 7)
    whole = np.where(column % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)
    np.testing.assert_array_equal(sinusoid_table(2500, 7), whole)


def test_every_real_checkpoint_passes_the_check() -> None:
    for path in (ROOT / "tests/data/oracle").glob("*.pth"):
        check_torch_file(path)
