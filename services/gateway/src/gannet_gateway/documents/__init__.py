"""From uploaded bytes to stored passages."""
