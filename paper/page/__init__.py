"""``docs/paper.md``: its sections, charts and picture."""
