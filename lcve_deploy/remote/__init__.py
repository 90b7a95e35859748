"""Engines on other machines, behind the Open Inference Protocol. Clips come here encrypted already; no key."""
