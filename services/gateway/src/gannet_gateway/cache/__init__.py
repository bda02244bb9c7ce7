"""What was computed before: in memory, and in a Redis that several gateways share."""
