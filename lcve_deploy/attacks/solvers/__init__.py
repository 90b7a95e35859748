"""Solvers that attacks share: assignment, sorting, and puzzles."""
