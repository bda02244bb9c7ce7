"""What generators that write freely are told."""
