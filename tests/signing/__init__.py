"""Signed artifacts: what the pinned key has signed is taken, and nothing else; the private key stays where it is."""
