"""Tests of making, adding and removing keys."""
