"""Served models: find versions, load and probe them, batch requests, count runs."""
