"""Encryption of a clip in other libraries: is NumPy the right one?

    pip install numba opencv-python-headless
    python -m benchmarks.gathers

Every contestant makes the same bytes from the same clip, in five fresh processes of forty rounds. Figures go to
``benchmarks/results/gathers.json``, and from there to ``docs/evidence/benchmarks.md`` with ``python -m benchmarks
--only page``. The two libraries are no dependencies of this package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.files import RESULTS
from benchmarks.common.measure import Turns
from benchmarks.common.processes import figures_of, say
from benchmarks.common.stamp import machine, stamp, versions
from benchmarks.common.summary import summary
from benchmarks.common.tables import SPREAD, paragraph, spread, table
from lcve_deploy import ClipGeometry, PlainClip, SecurityKey, encrypt
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.samples import real_clips

FIGURES = RESULTS / "gathers.json"
GEOMETRY = ClipGeometry.parse("16x224x224x3/2x16x16")
LABELS = {
    "package": "this package: NumPy, two rows of cubes as 16-bit words",
    "takes": "NumPy: into cubes, then `take` of K1 and of K2",
    "flat": "NumPy: one `take` of all values, with `out`",
    "numba": "numba: one pass of all values, an index for each",
    "numba_cubes": "numba: one pass of all cubes, an index for each value of a cube",
    "numba_threads": "the same with two threads",
    "remap": "OpenCV: `remap`, nearest",
}
_PROCESSES, _ROUNDS = 5, 40

Bytes = npt.NDArray[np.uint8]
Work = Callable[[], Bytes]


def works(clip: Bytes, orders: Orders) -> dict[str, Work]:
    """Return the contestants; each makes the encrypted clip ``[N, L]`` in fresh memory."""
    flat = _flat_index(orders)
    made: dict[str, Work] = {
        "package": lambda: encrypt(PlainClip(values=clip), orders).values,
        "takes": lambda: GEOMETRY.to_cubes(clip, np).take(orders.cube_order, 0).take(orders.pixel_order, 1),
        "flat": lambda: np.take(clip.reshape(-1), flat, out=np.empty(flat.shape, np.uint8), mode="wrap"),
        **_in_numba(clip, flat, orders),
        "remap": _in_opencv(clip, flat),
    }
    expected = made["package"]()
    for name, work in made.items():
        if not np.array_equal(work().reshape(expected.shape), expected):
            raise AssertionError(f"{name} gives other bytes")
    return made


def _flat_index(orders: Orders) -> npt.NDArray[np.intp]:
    """Return the index into the values of a clip that each encrypted value has, ``[N, L]``."""
    numbers = np.arange(np.prod(GEOMETRY.clip_shape), dtype=np.intp).reshape(GEOMETRY.clip_shape)
    flat: npt.NDArray[np.intp] = GEOMETRY.to_cubes(numbers, np)[np.ix_(orders.cube_order, orders.pixel_order)]
    return flat


def _in_numba(clip: Bytes, flat: npt.NDArray[np.intp], orders: Orders) -> dict[str, Work]:
    import numba

    plain, index = clip.reshape(-1), flat.astype(np.uint32)
    start, offsets = index[:, 0].copy(), (flat[0] - flat[0, 0]).astype(np.int32)

    def values(source: Bytes, index: Any) -> Bytes:
        result = np.empty(index.shape, np.uint8)
        for i in range(index.shape[0]):
            for j in range(index.shape[1]):
                result[i, j] = source[index[i, j]]
        return result

    def cubes(source: Bytes, start: Any, offsets: Any) -> Bytes:
        result = np.empty((len(start), len(offsets)), np.uint8)
        for i in numba.prange(len(start)):
            for j in range(len(offsets)):
                result[i, j] = source[np.intp(start[i]) + offsets[j]]
        return result

    numba.set_num_threads(2)
    one, two = numba.njit(cubes), numba.njit(cubes, parallel=True)
    return {
        "numba": partial(numba.njit(values), plain, index),
        "numba_cubes": partial(one, plain, start, offsets),
        "numba_threads": partial(two, plain, start, offsets),
    }


def _in_opencv(clip: Bytes, flat: npt.NDArray[np.intp]) -> Work:
    import cv2

    cv2.setNumThreads(1)
    width = GEOMETRY.width * GEOMETRY.channels
    image = clip.reshape(-1, width)
    places = np.stack([flat % width, flat // width], axis=-1).astype(np.int16)
    return lambda: cv2.remap(image, places, None, cv2.INTER_NEAREST)


def measure(process: int, rounds: int) -> dict[str, Any]:
    """Measure in this process."""
    orders = derive_orders(SecurityKey.create(), salt=bytes(16), geometry=GEOMETRY, classes=None)
    clip = real_clips(GEOMETRY)[0]
    turns = Turns(rounds=rounds, process=process)
    return {"times": turns.take({"copy": clip.copy, **works(clip, orders)}, warm_up=5)}


def section() -> str:
    """Return the part of the page, or nothing if there are no figures."""
    if not FIGURES.exists():
        return ""
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    rows = [
        (label, f"{1e3 * row['seconds']:.2f} ms", *spread(row))
        for name, label in LABELS.items()
        for row in [found["rows"][name]]
    ]
    text = paragraph(
        "**Other libraries.** All make the same bytes from the same clip, into fresh memory, layout `cubes`, and take",
        "turns with a copy of the clip, which the ratio is to. Generated by `python -m benchmarks.gathers`.",
    )
    libraries = ", ".join(f"{name} {number}" for name, number in found["libraries"].items())
    stamp = f"<sub>{found['date']}; {found['machine']}; {libraries}, numpy {found['versions']['numpy']}</sub>"
    return f"{text}\n\n{table(('library', 'time', *SPREAD), rows)}\n\n{stamp}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--process", type=int, help="measure in this process, and print the figures")
    given = parser.parse_args()
    if given.process is not None:
        print(json.dumps(measure(given.process, _ROUNDS)))
        return
    figures = [figures_of("gathers", "--process", number) for number in range(1, _PROCESSES + 1)]
    libraries = versions(("numba", "opencv-python-headless"))
    found = {"machine": machine(), **stamp(), "libraries": libraries, **summary(figures)}
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    say(f"wrote {FIGURES}")


if __name__ == "__main__":
    main()
