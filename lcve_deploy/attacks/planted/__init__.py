"""Planted cases: artifacts and clips whose orders are known, to check the attacks."""
