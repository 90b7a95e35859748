"""Attacks on three subjects: ``python -m benchmarks.attacks`` writes a table of ``docs/evidence/security.md``."""
