"""Causal language models: a decode loop of our own over ONNX Runtime, with continuous batching; knows no transport."""
