"""gRPC: call handlers and messages."""
