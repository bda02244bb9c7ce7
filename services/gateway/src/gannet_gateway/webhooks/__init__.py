"""Tells whoever a collection names that a job has ended."""
