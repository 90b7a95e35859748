"""The model that all servers under test serve, as requests see it."""

from __future__ import annotations

from typing import Final

import numpy as np

from lcve_deploy.clips import Binding, Layout
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.protocol.binding import binding_to_parameters
from tests.conftest import GEOMETRY, SALT, SECRET
from tests.support.artifacts import KEY

__all__ = ["BATCH", "BINDING", "CLASSES", "CLIP", "MAX_BATCH", "MODEL", "NAME", "SHAPE"]

NAME: Final = "actions"
MODEL: Final = f"{NAME}-{KEY}"
"""``lcve triton`` adds the name of the key folder."""
SHAPE: Final = (64, 384)
"""Of one clip in the layout cubes, for 8x32x32x3/2x8x8."""
CLASSES: Final = 5
BINDING: Final = binding_to_parameters(
    Binding(scheme="lcve-1", key_id=SecurityKey(SECRET).key_id, salt=SALT.hex(), geometry=GEOMETRY, layout=Layout.CUBES)
)
"""Of the artifact that is served."""
MAX_BATCH: Final = 4
"""As the servers are told."""
BATCH: Final = 3
"""Of a request with several clips."""

CLIP: Final = np.random.default_rng(7).integers(0, 256, (MAX_BATCH, *SHAPE), dtype=np.uint8)
"""Random ciphertext."""
