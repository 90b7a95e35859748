"""The Open Inference Protocol (v2), as far as server, client and exporter must say the same of it."""
