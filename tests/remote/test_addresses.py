"""Addresses and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lcve_deploy import RemoteOptions, RemoteSession
from lcve_deploy.errors import (
    RequestError,
)
from lcve_deploy.remote import Address, is_address
from tests.remote.helpers import BINDING

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all


@pytest.mark.parametrize(
    ("text", "endpoints", "model", "version"),
    [
        ("grpc://localhost/digits", ("localhost:8001",), "digits", ""),
        ("grpcs://one:1,two:2/digits/3", ("one:1", "two:2"), "digits", "3"),
        ("http://10.0.0.1/m.v-2_x/", ("10.0.0.1:8000",), "m.v-2_x", ""),
        ("https://[::1]:9/m", ("[::1]:9",), "m", ""),
        ("grpc://a:1,a:1/m", ("a:1",), "m", ""),
    ],
)
def test_an_address_names_endpoints_model_and_version(
    text: str, endpoints: tuple[str, ...], model: str, version: str
) -> None:
    address = Address.parse(text)
    assert (address.endpoints, address.model, address.version) == (endpoints, model, version)
    assert Address.parse(str(address)) == address
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a/m",
        "grpc://a:1",
        "grpc://a:1/",
        "grpc:///m",
        "grpc://a:0/m",
        "grpc://a:65536/m",
        "grpc://a:x/m",
        "grpc://a:1,/m",
        "grpc://user@a:1/m",
        "grpc://a:1/m/0",
        "grpc://a:1/m/latest",
        "grpc://a:1/m/1/x",
        "http://a:1/m?x=1",
        "http://a b:1/m",
        "grpc://a:1/m\n",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        Address.parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": 0},
        {"deadline": float("nan")},
        {"deadline": float("inf")},
        {"retries": -1},
        {"pause": -1},
        {"tls_cert": Path("a.pem")},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|together"):
        RemoteOptions(**wrong)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("grpc://a:1/m", RemoteOptions(tls_ca=Path("ca.pem"))),
        ("grpc://a:1/m", RemoteOptions(shared_memory=True)),
        ("http://localhost:1/m", RemoteOptions(shared_memory=True)),
    ],
)
def test_options_that_an_address_cannot_have_are_refused(address: str, options: RemoteOptions) -> None:
    with pytest.raises(RequestError) as caught:
        RemoteSession(address, BINDING, options)
    assert caught.value.hint
