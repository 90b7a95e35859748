"""Fuzzing of everything that reads files from outside; see docs/fuzzing.md."""
