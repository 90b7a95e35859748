"""The gRPC side of the server: calls, and messages as bytes."""
