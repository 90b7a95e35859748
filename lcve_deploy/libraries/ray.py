"""Load Ray with its usage statistics and file uploads turned off.

By default it sends usage statistics to its vendor. Under ``uv run`` it would pack the working folder, including any
key file in it, and send it to all workers.
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
    """Return the module, with ``ray.data`` loaded. Environment variables that are already set take precedence.

    Args:
        purpose: what needs the module, for the error.

    Raises:
        MissingDependencyError: Ray or ``ray.data`` is not installed.
    """
    for name, value in _QUIET.items():  # read at load time, and again by the processes that Ray starts
        os.environ.setdefault(name, value)
    with require(f"{purpose} needs Ray", extra="batch"):
        import ray
        import ray.data
    return ray
