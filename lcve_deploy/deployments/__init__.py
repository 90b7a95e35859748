"""Serve an artifact with other servers: Triton model repositories and Kubernetes manifests."""
