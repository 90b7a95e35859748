"""Secrets and what is derived from them: the key, the orders K1 to K3, the signing key. Servers never import it."""
