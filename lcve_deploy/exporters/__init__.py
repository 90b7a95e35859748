"""Convert checkpoints to ONNX graphs, and graphs to TensorRT plans. Reading checkpoints needs the extra ``export``.

Exporters receive weights that are already scrambled. No module of this package can import a key.
"""
