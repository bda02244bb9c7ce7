"""`tei.v1`: the contract of Text Embeddings Inference, so that its clients work unchanged. Served with the first model."""
