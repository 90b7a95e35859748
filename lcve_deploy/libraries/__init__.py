"""Load ONNX Runtime, TensorRT, Ray and CUDA with their telemetry turned off."""
