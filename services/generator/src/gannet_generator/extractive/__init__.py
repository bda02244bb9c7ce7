"""The generator that quotes: the sentences of the sources that answer the question, or none."""
