"""Planted cases: artifacts and clips with known orders, which check that attacks work."""
