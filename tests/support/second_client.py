"""A second client, written from docs/reference/format.md alone, and the vectors that it gives.

Nothing of ``lcve_deploy`` is imported here, so that the package is compared with the page and not with itself.

    python -m tests.support.second_client docs/reference/vectors.json
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

SECRET = bytes(range(32))
SALT = bytes(range(16, 32))
SMALL = "2x4x6x3/1x2x2"
REJECTING = 4508
TOKENS = "2x4x6x3/1x2x2"
PREFIX = 2
"""The smallest number of classes whose label order, under this secret and salt, throws a draw away."""

Order = list[int]


# Section 2


def kdf(secret: bytes, info: str, size: int, salt: bytes = b"") -> bytes:
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info.encode("ascii") + b"\x01", hashlib.sha256).digest()[:size]


def draws(key: bytes) -> Iterator[int]:
    block = Cipher(AES256(key), ECB()).encryptor()  # noqa: S305 (counter mode by hand: block by block)
    counter = 0
    while True:
        yield from struct.unpack("<4I", block.update(counter.to_bytes(16, "big")))
        counter += 1


def order(info: str, size: int) -> tuple[Order, list[dict[str, int]]]:
    """A permutation, and the draws that were thrown away."""
    stream, places, rejected = draws(kdf(SECRET, info, 32, SALT)), list(range(size)), []
    number = 0
    for i in range(size - 1, 0, -1):
        bound = i + 1
        while True:
            draw, number = next(stream), number + 1
            if draw < 2**32 - 2**32 % bound:
                break
            rejected.append({"draw_number": number - 1, "draw": draw, "bound": bound})
        j = draw % bound
        places[i], places[j] = places[j], places[i]
    return places, rejected


def sizes(geometry: str) -> tuple[int, ...]:
    return tuple(int(size) for size in geometry.replace("/", "x").split("x"))


def counts(geometry: str) -> tuple[int, int]:
    """N and L."""
    frames, height, width, channels, t, h, w = sizes(geometry)
    return (frames // t) * (height // h) * (width // w), t * h * w * channels


def cube_order(geometry: str) -> Order:
    return order(f"lcve-1/cube-order/{geometry}", counts(geometry)[0])[0]


def pixel_order(geometry: str) -> Order:
    return order(f"lcve-1/pixel-order/{geometry}", counts(geometry)[1])[0]


def label_order(classes: int) -> Order:
    return order(f"lcve-1/label-order/{classes}", classes)[0]


# Section 3


def place(geometry: str, cube: int, value: int) -> int:
    """Where in the bytes of a clip a value of a cube stands."""
    _, height, width, channels, t, h, w = sizes(geometry)
    x, rest = divmod(cube, (height // h) * (width // w))
    y, z = divmod(rest, width // w)
    a, rest = divmod(value, h * w * channels)
    b, rest = divmod(rest, w * channels)
    c, d = divmod(rest, channels)
    return (((x * t + a) * height + y * h + b) * width + z * w + c) * channels + d


def encrypted(clip: bytes, geometry: str, layout: str) -> bytes:
    cubes, values = counts(geometry)
    k1, k2 = cube_order(geometry), pixel_order(geometry)
    result = bytearray(len(clip))
    for i in range(cubes):
        for j in range(values):
            target = i * values + j if layout == "cubes" else place(geometry, i, j)
            result[target] = clip[place(geometry, k1[i], k2[j])]
    return bytes(result)


def pattern_clip(geometry: str) -> bytes:
    return bytes(i * 7919 % 251 for i in range(math.prod(counts(geometry))))


# Sections 4 to 6


def probabilities(logits: list[list[float]], k3: Order) -> list[float]:
    """Mean over the views of the softmax, in the plain order."""
    views = []
    for received in logits:
        plain = [0.0] * len(received)
        for c, value in enumerate(received):
            plain[k3[c]] = value
        powers = [math.exp(value - max(plain)) for value in plain]
        views.append([power / sum(powers) for power in powers])
    return [sum(column) / len(views) for column in zip(*views, strict=True)]


def indices(sampling: str, total: int, frames: int, stride: int, views: int) -> list[list[int]]:
    result = []
    for v in range(views):
        if sampling == "kinetics":
            slack = max(total - ((frames - 1) * stride + 1), 0)
            start = math.floor(Fraction(slack, 2) if views == 1 else Fraction(slack * v, views - 1))
            taken = [start + i * stride for i in range(frames)]
        else:
            share = (v + Fraction(1, 2)) / views
            taken = [math.floor((i + share) * total / frames) for i in range(frames)]
        result.append([min(index, total - 1) for index in taken])
    return result


def half_to_even(number: Fraction) -> int:
    below = math.floor(number)
    rest = number - below
    return below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


def offsets(height: int, width: int, crop: tuple[int, int], views: int) -> list[list[int]]:
    slack = height - crop[0], width - crop[1]
    result = []
    for s in range(views):
        shares = [Fraction(1, 2), Fraction(1, 2)]
        shares[0 if slack[0] > slack[1] else 1] = Fraction(1, 2) if views == 1 else Fraction(s, views - 1)
        result.append([half_to_even(size * share) for size, share in zip(slack, shares, strict=True)])
    return result


def resized(height: int, width: int, short_side: int) -> list[int]:
    return [size * short_side // min(height, width) for size in (height, width)]


def clip_file(values: bytes, shape: list[int], metadata: dict[str, str]) -> bytes:
    clip = {"dtype": "U8", "shape": shape, "data_offsets": [0, len(values)]}
    header = json.dumps({"__metadata__": metadata, "clip": clip}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + values


def binding(geometry: str, layout: str) -> dict[str, str]:
    return {
        "scheme": "lcve-1",
        "key_id": kdf(SECRET, "lcve-1/key-id", 16).hex(),
        "salt": SALT.hex(),
        "geometry": geometry,
        "layout": layout,
    }


# Section 9


def http_request(values: bytes, shape: list[int], parameters: dict[str, str]) -> dict[str, Any]:
    header = {
        "parameters": parameters,
        "inputs": [
            {"name": "clips", "shape": shape, "datatype": "UINT8", "parameters": {"binary_data_size": len(values)}}
        ],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    return {
        "method": "POST",
        "path": "/v2/models/actions/infer",
        "headers": {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(text)),
            "Content-Length": str(len(text) + len(values)),
        },
        "header": header,
        "body_hex": (text + values).hex(),
    }


def http_answer(logits: list[float]) -> dict[str, Any]:
    raw = struct.pack(f"<{len(logits)}f", *logits)
    output = {
        "name": "logits",
        "datatype": "FP32",
        "shape": [1, len(logits)],
        "parameters": {"binary_data_size": len(raw)},
    }
    text = json.dumps({"model_name": "actions", "model_version": "1", "outputs": [output]}).encode()
    return {
        "headers": {"Inference-Header-Content-Length": str(len(text))},
        "body_hex": (text + raw).hex(),
        "logits": [logits],
    }


def grpc_request(values: bytes, shape: list[int], parameters: dict[str, str]) -> dict[str, Any]:
    return {
        "call": "inference.GRPCInferenceService/ModelInfer",
        "message": {
            "model_name": "actions",
            "parameters": {name: {"string_param": text} for name, text in parameters.items()},
            "inputs": [{"name": "clips", "datatype": "UINT8", "shape": shape}],
            "outputs": [{"name": "logits"}],
        },
        "raw_input_contents_hex": [values.hex()],
    }


# The vectors

EXIF = {
    1: ([1, 0, 0, 1], [[1, 2, 3], [4, 5, 6]]),
    2: ([-1, 0, 0, 1], [[3, 2, 1], [6, 5, 4]]),
    3: ([-1, 0, 0, -1], [[6, 5, 4], [3, 2, 1]]),
    4: ([1, 0, 0, -1], [[4, 5, 6], [1, 2, 3]]),
    5: ([0, 1, 1, 0], [[1, 4], [2, 5], [3, 6]]),
    6: ([0, 1, -1, 0], [[4, 1], [5, 2], [6, 3]]),
    7: ([0, -1, -1, 0], [[6, 3], [5, 2], [4, 1]]),
    8: ([0, -1, 1, 0], [[3, 6], [2, 5], [1, 4]]),
}
"""EXIF orientation → a, b, c, d of the display matrix, and how the picture 1 2 3 / 4 5 6 is shown."""
SAMPLED = (
    *(("kinetics", total, 8, 2, views) for total in (1, 5, 14, 15, 16, 25, 300) for views in (1, 3)),
    ("kinetics", 300, 16, 4, 5),
    *(("uniform", total, 8, 1, views) for total in (1, 5, 8, 100, 432) for views in (1, 3)),
)
CROPPED = (
    *((32, 57, (32, 32), views) for views in (1, 3)),
    *((256, 455, (224, 224), views) for views in (1, 3)),
    (455, 256, (224, 224), 3),
    (40, 48, (32, 40), 2),
    (43, 32, (32, 32), 1),
    (46, 32, (32, 32), 7),
    (32, 77, (32, 32), 11),
)
RESIZED = ((240, 320, 224), (240, 426, 224), (426, 240, 224), (1080, 1920, 256), (48, 65, 32), (20, 30, 32), (1, 3, 2))


def digest(entries: Order) -> dict[str, Any]:
    packed = struct.pack(f"<{len(entries)}I", *entries)
    return {"begins": entries[:6], "sha256": hashlib.sha256(packed).hexdigest()}


def key_file(secret: bytes) -> str:
    data = b"LCVEKEY1" + secret
    return (data + hashlib.sha256(data).digest()[:8]).hex()


def of_clip(geometry: str) -> dict[str, Any]:
    clip = pattern_clip(geometry)
    named = {"plain": clip, **{layout: encrypted(clip, geometry, layout) for layout in ("cubes", "video")}}
    return {
        "geometry": geometry,
        **{f"{name}_sha256": hashlib.sha256(data).hexdigest() for name, data in named.items()},
    }


def plain_tokens(received: list[list[float]], order: Order, prefix: int) -> list[list[float]]:
    """Rows of tokens in the order of the clip."""
    rows = dict(enumerate(received[:prefix]))
    rows.update({prefix + cube: received[prefix + place] for place, cube in enumerate(order)})
    return [rows[row] for row in range(len(received))]


def vectors() -> dict[str, Any]:
    geometry = "8x32x32x3/2x8x8"
    derived = kdf(SECRET, "lcve-1/derived-key/camera-7", 32)
    plain, small = pattern_clip(SMALL), encrypted(pattern_clip(SMALL), SMALL, "cubes")
    shape, parameters = [1, *counts(SMALL)], {f"lcve_{k}": v for k, v in binding(SMALL, "cubes").items()}
    tokens = [[row / 2, -float(row)] for row in range(PREFIX + counts(TOKENS)[0])]
    k3, received = label_order(5), [[0.5, -1.0, 2.0, 0.0, 1.5], [1.0, 1.0, -2.0, 3.0, 0.25]]
    _, rejected = order(f"lcve-1/label-order/{REJECTING}", REJECTING)
    return {
        "about": "Vectors of docs/reference/format.md, in its notation. Written by tests/support/second_client.py.",
        "scheme": "lcve-1",
        "secret": SECRET.hex(),
        "salt": SALT.hex(),
        "key": {"file": key_file(SECRET), "id": kdf(SECRET, "lcve-1/key-id", 16).hex()},
        "derived_key": {
            "name": "camera-7",
            "secret": derived.hex(),
            "id": kdf(derived, "lcve-1/key-id", 16).hex(),
        },
        "orders": {
            "geometry": geometry,
            "classes": 400,
            "K1": digest(cube_order(geometry)),
            "K2": digest(pixel_order(geometry)),
            "K3": digest(label_order(400)),
        },
        "rejected_draws": {"classes": REJECTING, "rejected": rejected, "K3": digest(label_order(REJECTING))},
        "clips": [of_clip(name) for name in (geometry, "4x6x10x1/2x3x5", "4x4x6x2/2x2x3", "2x8x8x4/1x4x2")],
        "labels": {
            "classes": 5,
            "K3": k3,
            "received": received,
            "probabilities": probabilities(received, k3),
        },
        "tokens": {
            "geometry": TOKENS,
            "prefix": PREFIX,
            "K1": cube_order(TOKENS),
            "received": tokens,
            "plain": plain_tokens(tokens, cube_order(TOKENS), PREFIX),
        },
        "sampling": [
            dict(zip(("sampling", "total", "frames", "stride", "views"), case, strict=True), indices=indices(*case))
            for case in SAMPLED
        ],
        "resizing": [
            {"height": h, "width": w, "short_side": short, "resized": resized(h, w, short)} for h, w, short in RESIZED
        ],
        "crops": [
            {"height": h, "width": w, "crop": list(crop), "views": views, "offsets": offsets(h, w, crop, views)}
            for h, w, crop, views in CROPPED
        ],
        "orientations": [
            {"exif": number, "matrix": matrix, "stored": [[1, 2, 3], [4, 5, 6]], "shown": shown}
            for number, (matrix, shown) in EXIF.items()
        ],
        "clip_file": {
            "geometry": SMALL,
            "layout": "cubes",
            "views": "1x1",
            "plain_hex": plain.hex(),
            "file_hex": clip_file(small, shape, {**binding(SMALL, "cubes"), "views": "1x1"}).hex(),
        },
        "http_request": http_request(small, shape, parameters),
        "http_answer": http_answer([0.5, -1.0, 2.0, 0.0, 1.5]),
        "grpc_request": grpc_request(small, shape, parameters),
    }


def text() -> str:
    """The file; lists of numbers stand on one line."""
    numbers = re.compile(r"\[\s+(-?[\d.][^\[\]{}\"]*?)\s+\]")
    return numbers.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(vectors(), indent=1)) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
