"""Model repositories for Triton."""
