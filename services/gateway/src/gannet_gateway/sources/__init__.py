"""Places that documents are ingested from again and again."""
