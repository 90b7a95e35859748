"""Attacks on the scheme ``lcve-dct-1``, whose clips are quantised coefficients with secret signs."""
