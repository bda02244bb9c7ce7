"""Text analysis, the same wherever a text is read: words, stems and weights of BM25, and where sentences end."""
