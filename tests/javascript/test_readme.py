"""The example of ``clients/js/README.md``, with the module and the server where they are here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from lcve_deploy import Client, PlainClip, SealingKey, SecurityKey, open_session, read_clip_file
from tests.support.node import CLIENT, require_node
from tests.support.servers import serving


def test_the_example_works(exported: Path, key_file: Path, tmp_path: Path) -> None:
    node, blocks = require_node(), re.findall(r"```js\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    example, key = "".join(blocks), SealingKey.create()
    client = Client.open(exported / "client", SecurityKey.read(key_file))
    clip = np.random.default_rng(4).integers(0, 256, client.settings.binding.geometry.clip_shape, dtype=np.uint8)
    shutil.copy(key_file, tmp_path / "key.bin")
    shutil.copytree(exported / "client", tmp_path / "client")
    (tmp_path / "clip.rgb").write_bytes(clip.tobytes())
    key.write(tmp_path / "serve.key")
    with serving(exported / "server", "--open-with", tmp_path / "serve.key") as server:
        for written, here in (
            ("lcve-client", str(CLIENT / "src/index.js")),
            ("http://127.0.0.1:8000/actions", server.address("http")),
        ):
            assert example.count(written) == len(blocks) == 2
            example = example.replace(written, here)
        (tmp_path / "example.mjs").write_text(example)
        done = subprocess.run([node, "example.mjs"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    logits = open_session(exported / "server").run(client.encrypt(PlainClip(values=clip[None])))
    expected = [f"{prediction.text(2)}  {prediction.name}" for prediction in client.read(logits, top=3)]
    assert done.stdout.splitlines() == [*expected, client.read(logits, top=1)[0].name]
    sealed, plain = read_clip_file(tmp_path / "sealed.lcve", open_with=key), read_clip_file(tmp_path / "clip.lcve")
    np.testing.assert_array_equal(sealed.clip.values, plain.clip.values)
