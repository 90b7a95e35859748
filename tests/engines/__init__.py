"""Engines of a server folder: built, proven, opened, refused."""
