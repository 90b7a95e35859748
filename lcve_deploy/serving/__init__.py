"""The embedded server: Open Inference Protocol over gRPC and HTTP. It never holds a key."""
