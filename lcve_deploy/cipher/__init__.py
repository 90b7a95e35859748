"""LCVE on clips, ViT Scrambling on weights, and key rotation. Servers never import it."""
