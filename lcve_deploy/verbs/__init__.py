"""The verbs, which join all layers; each is one module."""
