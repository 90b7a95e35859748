"""One session class for each runtime: ONNX Runtime, OpenVINO, TensorRT."""
