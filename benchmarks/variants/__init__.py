"""Variants of the scheme that look stronger: what they cost, and what attacks on them recover. ``make variants``."""
