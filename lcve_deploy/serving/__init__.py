"""Embedded server: the Open Inference Protocol over gRPC and HTTP. It never holds a key."""
