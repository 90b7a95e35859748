"""The verbs, which join the rooms from top to bottom; each is one module."""
