"""Long-running operations: what becomes of accepted documents."""
