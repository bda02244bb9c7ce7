"""`gannet demo`: the Python documentation that every machine carries, ingested and asked."""
