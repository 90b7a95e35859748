"""``docs/evidence/paper.md``: its sections, charts and picture."""
