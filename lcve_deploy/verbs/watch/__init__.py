"""Watch a live source: windows read, encrypted and sent to a server, and one result each. With the key, no engine."""

from lcve_deploy.verbs.watch.pipeline import Watch, WatchOptions
from lcve_deploy.verbs.watch.results import Counts, Latency, Outcome, WindowResult

__all__ = ["Counts", "Latency", "Outcome", "Watch", "WatchOptions", "WindowResult"]
