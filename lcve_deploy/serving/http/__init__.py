"""The HTTP side of the server: connections, requests and their bodies."""
