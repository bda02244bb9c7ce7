"""Qdrant's gRPC API over Qdrant Edge, in a process of its own."""
