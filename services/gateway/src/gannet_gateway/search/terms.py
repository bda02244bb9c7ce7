"""BM25 terms of a query, by the same analysis that its passages went through in the embedder."""

from collections.abc import Sequence

import numpy as np
from cachetools import LRUCache

from gannet_gateway.vectors.points import Sparse
from gannet_lexical.sparse import LANGUAGES, Bm25Encoder
from gannet_lexical.stopwords import STOP_WORDS
from gannet_service.errors import InvalidInput

# About 2 MiB each, one for each language that is asked for by itself, and more where languages are mixed.
ENCODERS_KEPT_MAX = 64


class QueryTerms:
    """Encodes queries in one language or in several at once."""

    def __init__(self) -> None:
        self._encoders: LRUCache[tuple[str, frozenset[str]], Bm25Encoder] = LRUCache(ENCODERS_KEPT_MAX)

    def of(self, text: str, languages: Sequence[str]) -> Sparse:
        """The terms of `text`; none for a query of stop words or punctuation.

        In several languages a word has each one's stem, so that a passage finds its own among them: a term counts as often as the word
        occurs, whatever the number of languages that agree on it. Words that one of the languages stops are left out for all: "je" is
        no word of English and would weigh there as the rarest of names.
        """
        if len(languages) == 1:
            vector = self._encoder(languages[0], frozenset()).query(text)
            return Sparse(indices=vector.indices, values=vector.values)
        stopped = frozenset[str]().union(*(STOP_WORDS.get(language, ()) for language in languages))
        counts: dict[int, float] = {}
        for language in languages:
            vector = self._encoder(language, stopped).query(text)
            for term, count in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
                counts[term] = max(count, counts.get(term, 0.0))
        terms = sorted(counts)
        return Sparse(indices=np.array(terms, np.uint32), values=np.array([counts[one] for one in terms], np.float32))

    def _encoder(self, language: str, stopped: frozenset[str]) -> Bm25Encoder:
        key = language, stopped
        encoder = self._encoders.get(key)
        if encoder is None:
            encoder = self._encoders[key] = Bm25Encoder(language, also_stopped=stopped)
        return encoder


def check_language(code: str, field: str) -> str:
    """The code of a language that there is a stemmer for, or nothing; raises InvalidInput."""
    if code and code not in LANGUAGES:
        raise InvalidInput(f"{field}: {code[:20]!r} is not one of {', '.join(LANGUAGES)}", field=field)
    return code
