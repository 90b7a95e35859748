"""KServe's own clients, in an environment of their own."""
