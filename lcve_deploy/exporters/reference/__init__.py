"""Reference implementations in PyTorch, whose logits the artifact must repeat."""
