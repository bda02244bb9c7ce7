"""Who calls, what they may do and read, and how much of it."""
