"""Everything that speaks to Qdrant: the schema of points, writes, queries."""
