"""Feedback on answers and passages, over gRPC."""
