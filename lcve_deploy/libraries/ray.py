"""Finding Ray, which is told to report nothing and to send no files.

Its usage statistics go to its maker unless they are turned off. Under ``uv run`` it would pack the working folder,
and whatever key file lies there, and hand it to all workers.
"""

from __future__ import annotations

import os
from typing import Any, Final

from lcve_deploy.libraries.requiring import require

__all__ = ["load_ray"]

_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def load_ray(purpose: str) -> Any:
    """The module, with ``ray.data``. A variable of the environment that says otherwise is heeded.

    Args:
        purpose: what needs it, for the error.

    Raises:
        MissingDependencyError: Ray is not installed, or without its part for data.
    """
    for name, value in _QUIET.items():  # it looks when it is loaded, and what it starts looks again
        os.environ.setdefault(name, value)
    with require(f"{purpose} needs Ray", extra="batch"):
        import ray
        import ray.data
    return ray
