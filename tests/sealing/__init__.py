"""Sealing: keys, clips, requests and answers, and all that is refused."""
