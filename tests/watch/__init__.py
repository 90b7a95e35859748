"""Live sources, windows, the pipeline of ``lcve watch``, and the command."""
