"""Key rotation: the same answers under another key, nothing of the old order, and clear refusals."""
