"""Kubernetes and KServe manifests."""
