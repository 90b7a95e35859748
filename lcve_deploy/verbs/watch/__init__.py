"""Watch a live source: encrypt a sliding window of frames, send it to a server, and report a result for each window.

Needs the key, but no engine.
"""

from lcve_deploy.verbs.watch.pipeline import Watch, WatchOptions
from lcve_deploy.verbs.watch.results import Counts, Latency, Outcome, WindowResult

__all__ = ["Counts", "Latency", "Outcome", "Watch", "WatchOptions", "WindowResult"]
