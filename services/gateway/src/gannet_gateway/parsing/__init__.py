"""From uploaded bytes to the text that passages and offsets refer to."""
