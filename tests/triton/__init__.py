"""A real Triton server for tests, without a container: its core, and a backend of our own for ONNX graphs."""
