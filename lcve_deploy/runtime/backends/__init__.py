"""A session for each runtime: ONNX Runtime, OpenVINO, TensorRT."""
