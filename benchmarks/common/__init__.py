"""What the measurements share: models, timing, processes, tables."""
