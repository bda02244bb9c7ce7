"""Conversations, over gRPC."""
