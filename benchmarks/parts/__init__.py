"""Parts of ``docs/evidence/benchmarks.md``: each has ``TITLE``, ``measure`` (figures) and ``section`` (text)."""
