"""Servers and their clients as processes, and a test under overload: ``python -m benchmarks.serving.overload``."""
