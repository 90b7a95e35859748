"""Encrypted clips of few bytes: block-preserving encryption under H.264, and the scheme ``lcve-dct-1``."""
