"""Collections: the sets of documents that searches run over."""
