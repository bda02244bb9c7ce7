"""BM25 text analysis: words, stems, term ids and weights, the same for passages (embedder) and queries (gateway)."""
