"""The tables of the LCVE paper in small, by code that anyone can run: see ``README.md`` and ``python -m paper``."""
