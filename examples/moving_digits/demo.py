"""The main job on a small trained model: ``make demo``.

Makes a key, exports the committed checkpoint, writes a held-out clip as a real mp4 and reads it back,
encrypts it, and predicts its action from the plain and from the encrypted clip. Everything lands in
``demo/``, with a picture of plain, encrypted and decrypted frames.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from examples.moving_digits.data import ACTIONS, held_out_clips
from lcve_deploy import Client, SecurityKey, open_session
from lcve_deploy.client import softmax
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.files.writing import new_file
from lcve_deploy.video.write import encode_png, tile, write_video

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE / "moving_digits.pth"
DEMO = HERE.parents[1] / "demo"
HEADS, FRAMES, SIZE = 4, 16, 64
SHOWN_FRAMES = (0, 5, 10, 15)
ENLARGED = 3

Clip = npt.NDArray[np.uint8]


def lcve(*arguments: str) -> None:
    """Run a command line as a user would, and show it."""
    print(f"\n$ lcve {' '.join(arguments)}", flush=True)
    subprocess.run([str(Path(sys.executable).with_name("lcve")), *arguments], cwd=DEMO, check=True)


def write_inputs() -> int:
    """The held-out clip as mp4, and the names of the actions; returns the clip's true action."""
    clips, actions = held_out_clips(8)
    chosen = 5
    write_video(DEMO / "clip.mp4", clips[chosen])
    (DEMO / "actions.txt").write_text("\n".join(ACTIONS) + "\n")
    return int(actions[chosen])


def compare_predictions() -> tuple[Clip, Clip, Clip]:
    """Predict from the plain and from the encrypted clip; returns plain, encrypted and decrypted frames."""
    client = Client.open(DEMO / "service/client", SecurityKey.read(DEMO / "key.bin"))
    video = client.read_video(DEMO / "clip.mp4")
    encrypted = client.encrypt(video.clip)
    options = CheckpointOptions(heads=HEADS, frames=FRAMES, size=SIZE)
    reference = BuiltinReference(load_checkpoint(CHECKPOINT, options).model)
    plain_logits = reference.logits(video.clip.values)
    logits = client.plain_order(open_session(DEMO / "service/server").run(encrypted))

    print(f"\n{'action':<28}{'plain, PyTorch':>16}{'encrypted, ONNX':>18}{'|Δlogit|':>12}")
    shares, encrypted_shares = softmax(plain_logits)[0], softmax(logits)[0]
    for i, name in enumerate(ACTIONS):
        gap = abs(plain_logits[0, i] - logits[0, i])
        print(f"{name:<28}{shares[i]:>16.4%}{encrypted_shares[i]:>18.4%}{gap:>12.1e}")

    decrypted = client.decrypt(encrypted).values
    if not np.array_equal(decrypted, video.clip.values):
        raise SystemExit("the decrypted clip is not the plain one")
    seen = client.orders.geometry.from_cubes(encrypted.values, np)  # cubes put together, as an eavesdropper would
    return video.clip.values[0], seen[0], decrypted[0]


def write_picture(path: Path, rows: tuple[Clip, Clip, Clip]) -> None:
    """Frames of the plain (top), encrypted (middle) and decrypted clip (bottom)."""
    images = [clip[i].repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1) for clip in rows for i in SHOWN_FRAMES]
    data = encode_png(tile(images, columns=len(SHOWN_FRAMES)))
    with new_file(path) as file:
        file.write(data)


def main() -> None:
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    truth = write_inputs()
    lcve("keygen", "-o", "key.bin")
    lcve(
        *("export", "--key", "key.bin", "--ckpt", str(CHECKPOINT), "-o", "service"),
        *("--num-heads", str(HEADS), "--frames", str(FRAMES), "--size", str(SIZE)),
        *("--stride", "1", "--labels", "actions.txt", "--verify-clip", "clip.mp4"),
    )
    lcve("encrypt", "clip.mp4", "--key", "key.bin", "--client", "service/client", "-o", "clip.lcve")
    lcve("run", "service/server", "clip.lcve", "--logits-out", "logits.npy", "--top", "3")
    lcve("read", "logits.npy", "--key", "key.bin", "--client", "service/client", "--top", "3")
    rows = compare_predictions()
    write_picture(DEMO / "frames.png", rows)
    print(f"\nthe clip's true action: {ACTIONS[truth]}")
    print(f"frames, plain above encrypted above decrypted: {DEMO / 'frames.png'}")
    print("\nthe same in a browser, with the key file demo/key.bin and the video demo/clip.mp4:")
    print("$ .venv/bin/lcve web demo/service")


if __name__ == "__main__":
    main()
