"""What runs: clips, model, training, rows, and the records of results."""
