"""The page of ``lcve web`` in a real Chromium: how long a clip takes, missed frames, memory, and frames against PyAV.

    python -m benchmarks.browser --seconds 600

plays a film of 640 x 480 as a camera of 10 frames a second, for a model of 16 x 224 x 224 and stride 1, so that every
frame ends a window that is encrypted, decrypted and shown. The model is a stand-in that answers after a fixed time.
Figures go to ``benchmarks/results/browser.json``. Needs Chromium, Node and ``npm ci --prefix clients/js``. Linux only.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from benchmarks.common.files import RESULTS
from benchmarks.common.load import clock, others
from benchmarks.common.stamp import machine, stamp
from lcve_deploy import ClipGeometry, SecurityKey
from lcve_deploy.artifact.client_settings import ClientFile, ClientSettings
from lcve_deploy.cipher.clips import binding_of
from lcve_deploy.clips import Binding, EncryptedClip, Layout
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Preprocess, Resample
from lcve_deploy.remote import MeasuredRun
from lcve_deploy.samples import real_clips
from lcve_deploy.video import read_clips
from lcve_deploy.web.models import Offer
from lcve_deploy.web.server import serve_page
from lcve_deploy.web.settings import PageSettings
from tests.support.browser import Browser

RATE = 10
CLASSES = 400
RUN_SECONDS = 0.05
SAMPLE_SECONDS = 10.0
WARM_UP = 0.1
GEOMETRY = ClipGeometry.parse("16x224x224x3/2x16x16")
PREPROCESS = Preprocess(frames=16, stride=1, short_side=224, crop=(224, 224))
_FILM = ClipGeometry.parse("16x96x96x3/2x16x16")
_MIB = 2**20
_READ = """async (preprocess) => {
  const { openVideo, readClips, FrameReader, frameIndices } = await import("/client/video/index.js");
  const track = await openVideo(document.querySelector("#video-file").files[0]);
  const clip = await readClips(track, new FrameReader(preprocess), frameIndices(track.total, preprocess));
  let text = "";
  for (let at = 0; at < clip.length; at += 8192) text += String.fromCharCode(...clip.subarray(at, at + 8192));
  return btoa(text);
}"""

Frames = npt.NDArray[np.uint8]


class StandIn:
    """A model that answers random logits after a fixed time."""

    place, wire = "stand-in", ""

    def offer(self, binding: Binding) -> Offer:
        return Offer(binding=binding, classes=CLASSES)

    def run(self, clip: EncryptedClip) -> MeasuredRun:
        time.sleep(RUN_SECONDS)
        logits = np.random.default_rng().standard_normal((len(clip.values), CLASSES)).astype(np.float32)
        return MeasuredRun(logits=logits)

    def close(self) -> None:
        """There is no connection."""


def client_json(key: SecurityKey) -> bytes:
    """``client.json`` for the stand-in."""
    orders = derive_orders(key, salt=bytes(16), geometry=GEOMETRY, classes=CLASSES)
    settings = ClientSettings(
        binding=binding_of(orders, Layout.CUBES),
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        problem_type=ProblemType.SINGLE_LABEL,
        labels="hidden",
        preprocess=PREPROCESS,
    )
    return json.dumps(ClientFile(settings=settings, manifest_sha256="0" * 64).to_json()).encode()


def film(width: int, height: int) -> Iterator[av.VideoFrame]:
    """32 frames of a film, enlarged."""
    for image in real_clips(_FILM).reshape(-1, 96, 96, 3):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        yield frame.reformat(width=width, height=height, format="yuv420p", interpolation="LANCZOS")


def write_film(path: Path, width: int, height: int, codec: str, rate: int = RATE, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in film(width, height):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def renderers(process: int) -> float:
    """Resident memory of the renderers among the descendants of a process, MiB."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    below, total = [process], 0
    while below:
        children = parents.get(below.pop(), [])
        below += children
        for child in children:
            if b"--type=renderer" in Path(f"/proc/{child}/cmdline").read_bytes():
                pages = int(Path(f"/proc/{child}/statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE")
    return total / _MIB


def watch_camera(browser: Browser, url: str, key: Path, camera: Path, seconds: float) -> dict[str, Any]:
    """Run the camera, and read figures and memory meanwhile."""
    browser.open(url, camera=camera, keep=False)
    browser.files("#key-file", key)
    browser.wait("!document.querySelector('#camera').disabled")
    browser.click("#camera")
    browser.wait("Number(document.querySelector('#clips').textContent) > 5")
    memory, start, end = [], clock(), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(SAMPLE_SECONDS, seconds / 20))
        memory.append(renderers(browser.pid))
    times = {name: {"p50": float(p50), "p95": float(p95)} for name, _, p50, p95 in browser.rows("#times")}
    read, missed = map(int, re.findall(r"(\d+) (?:read|missed)", browser.text("#frames")))
    settled = memory[int(WARM_UP * len(memory)) :]
    half = len(settled) // 2
    return {
        "seconds": seconds,
        "frames": read,
        "missed": missed,
        "clips": int(browser.text("#clips")),
        "milliseconds": times,
        "renderer_mib": {"smallest": min(settled), "median": median(settled), "largest": max(settled)},
        "growth_percent": 100 * (median(settled[half:]) / median(settled[:half]) - 1),
        "other_processors": others(start, clock()),
        "errors": browser.console,
    }


def compare_frames(browser: Browser, url: str, work: Path) -> dict[str, dict[str, float]]:
    """Differences of clips between the page and PyAV, in levels of 255."""
    video = write_film(work / "film.mp4", 480, 480, "libx264", crf="16")
    cases = {
        "not resized": replace(PREPROCESS, short_side=None),
        **{f"short side 224, {kind}": replace(PREPROCESS, resample=kind) for kind in Resample},
        "short side 600, bilinear": replace(PREPROCESS, short_side=600),
    }
    found = {}
    for name, preprocess in cases.items():
        browser.open(url)
        browser.evaluate("() => { document.querySelector('#video-file').disabled = false; }")
        browser.files("#video-file", video)
        ours = np.frombuffer(base64.b64decode(browser.evaluate(_READ, to_javascript(preprocess))), np.uint8)
        theirs = read_clips(video, preprocess, GEOMETRY).clip.values.ravel()
        apart = np.abs(ours.astype(int) - theirs)
        found[name] = {"mean": float(apart.mean()), "largest": int(apart.max())}
    return found


def to_javascript(preprocess: Preprocess) -> dict[str, Any]:
    """Settings by the names that the client in JavaScript has for them."""
    return {
        "frames": preprocess.frames,
        "stride": preprocess.stride,
        "sampling": preprocess.sampling.value,
        "shortSide": preprocess.short_side,
        "size": list(preprocess.size) if preprocess.size else None,
        "resample": preprocess.resample.value,
        "crop": list(preprocess.crop),
        "cropRounding": preprocess.crop_rounding.value,
    }


def measure(url: str, key: Path, work: Path, seconds: float) -> dict[str, Any]:
    camera = write_film(work / "camera.y4m", 640, 480, "wrapped_avframe")
    with Browser() as browser:
        frames = compare_frames(browser, url, work)
        live = watch_camera(browser, url, key, camera, seconds)
    return {"machine": machine(), **stamp(), "camera": live, "frames": frames}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--output", type=Path, default=RESULTS / "browser.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work, key = Path(folder), SecurityKey.create()
        key.write(work / "key.bin")

        def started(port: int) -> None:
            Thread(target=run, args=(f"http://127.0.0.1:{port}/",), daemon=True).start()

        def run(url: str) -> None:
            try:
                figures = measure(url, work / "key.bin", work, given.seconds)
                given.output.write_text(json.dumps(figures, indent=2) + "\n")
                json.dump(figures, sys.stdout, indent=2)
            finally:
                os.kill(os.getpid(), signal.SIGINT)

        serve_page(PageSettings(port=0, client=client_json(key)), StandIn(), started)


if __name__ == "__main__":
    main()
