"""Parts of ``docs/benchmarks.md``: each module has ``TITLE``, ``measure`` (figures) and ``section`` (their text)."""
