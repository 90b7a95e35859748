"""Parts of ``docs/evidence/paper.md``: a module each, with ``TITLE`` and ``section``, which makes text of findings."""
