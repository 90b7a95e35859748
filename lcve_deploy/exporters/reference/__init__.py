"""Reference implementations in PyTorch; the artifact must produce the same logits."""
