"""Solvers shared by attacks: assignment, layout by sorting, and jigsaw puzzles."""
