"""Fuzzing of everything that reads files from outside; see docs/evidence/fuzzing.md."""
