"""Programs of contestants with environments of their own: each runs in its environment, and imports nothing of ours."""
