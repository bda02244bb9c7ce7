"""The `gannet` command line: one module a command group."""
