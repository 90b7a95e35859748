"""Helpers that many tests share: stand-ins for hardware and servers, processes, planted secrets."""
