"""Bytes that any gateway can read: the documents' texts, and uploads on their way to becoming texts."""
