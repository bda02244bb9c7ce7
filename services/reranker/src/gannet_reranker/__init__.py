"""The reranker: cross-encoder scores over gRPC."""
