"""Measurements on a GPU: ``python -m benchmarks.gpu`` writes ``docs/evidence/gpu.md``."""
