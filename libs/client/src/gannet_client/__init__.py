"""The Python SDK of Gannet, async first."""
