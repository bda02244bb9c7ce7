"""From a question to the stream of answer events."""
