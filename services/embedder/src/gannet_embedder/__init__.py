"""The embedder: dense and BM25 vectors over gRPC."""
