"""Find ONNX Runtime, TensorRT, Ray and CUDA, and turn off what they report to their makers."""
