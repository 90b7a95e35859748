"""Verbs: the operations that users call, one module each. They combine all layers below."""
