"""Deployments of artifacts: Triton model repositories and Kubernetes manifests."""
