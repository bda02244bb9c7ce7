"""What must not be lost, in SQL: tenants, API keys, collections, documents, intents."""
