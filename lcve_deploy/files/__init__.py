"""Read untrusted files within limits, and write files completely or not at all."""
