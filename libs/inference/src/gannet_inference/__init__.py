"""Models on disk and in memory: manifest, ONNX graphs, sessions, tokenising; knows no transport."""
