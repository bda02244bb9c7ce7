"""Models on disk and in memory: manifest, ONNX graphs, sessions, tokenising, BM25 weights; knows no transport."""
