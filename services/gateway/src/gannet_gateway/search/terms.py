"""BM25 terms of a query, by the same analysis that its passages went through in the embedder."""

from gannet_gateway.vectors.points import Sparse
from gannet_lexical.sparse import Bm25Encoder


class QueryTerms:
    """Encodes queries; keeps one encoder (about 2 MiB) for each language that was asked for, of the few dozen there are."""

    def __init__(self) -> None:
        self._encoders: dict[str, Bm25Encoder] = {}

    def of(self, text: str, language: str) -> Sparse:
        """The terms of `text`; none for a query of stop words or punctuation. `language` is a collection's."""
        encoder = self._encoders.get(language)
        if encoder is None:
            encoder = self._encoders[language] = Bm25Encoder(language)
        vector = encoder.query(text)
        return Sparse(indices=vector.indices, values=vector.values)
