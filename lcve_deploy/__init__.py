"""Recognition on encrypted clips and pictures, with ONNX Runtime and TensorRT.

The owner of a video transformer exports it with a secret key; the holder of the key encrypts clips;
the operator of the exported artifact sees neither::

    key = SecurityKey.read("key.bin")
    export("videomae.pth", "service", key=key)              # model owner
    client = Client.open("service/client", key)             # edge
    clip = client.encrypt(client.read_video("video.mp4").clip)
    logits = open_session("service/server").run(clip)       # cloud: no key
    client.predict(client.plain_order(logits))              # edge

The public names are listed in ``__init__.pyi``, which type checkers read too. A name is imported from
its module when it is used, so importing the package loads neither a heavy library nor a module that
handles keys.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any, Final

__version__: Final = "0.1.0"


def _read_stub() -> dict[str, str]:
    """Map every public name to the module that defines it."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_bytes())
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_MODULE_OF: Final = _read_stub()

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
