"""BM25 sparse vectors: words to stems to 32-bit term ids to weights; the IDF is the index's part."""

import re
import threading
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import Stemmer
from numpy.typing import NDArray

from gannet_kernels import bm25
from gannet_lexical.stopwords import STOP_WORDS

# Robertson & Zaragoza 2009, section 3.5: values that do well across collections.
K1 = 1.2
B = 0.75
AVERAGE_LENGTH = 128.0

# ISO 639-1 to Snowball's names. Snowball's Serbian is written for Croatian, Bosnian and Serbian alike, in Latin and Cyrillic script.
_STEMMERS = {
    "ar": "arabic", "bs": "serbian", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hr": "serbian", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
LANGUAGES = tuple(sorted(_STEMMERS))

# Slots of the table from word to term, 2 MiB; half full it is emptied, so it never grows and never probes long.
_TABLE_SLOTS = 1 << 17
# Longer words are not stemmed: they are encoded data rather than language, and stemming is linear in their length.
_STEMMED_BYTES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseVector:
    """Weights by term.

    Attributes:
        indices: u32[n], ascending and unique.
        values: f32[n], > 0.
    """

    indices: NDArray[np.uint32]
    values: NDArray[np.float32]


class Bm25Encoder:
    """Turns texts of one language into BM25 vectors; safe to use from several threads.

    A word is a run of letters and digits: `os.path.join` is three words, `snake_case` is two. Case is ignored, and
    so are accents on Latin letters: č, š and ž are c, s and z, and đ is d (in Croatian, dj as well). Characters of
    scripts without spaces (Han, Kana) are words of their own.

    A term's id is the 64-bit FNV-1a hash of its stem's UTF-8 bytes, folded to 32 bits by exclusive or; 0 becomes 1. Ids
    are stored in indexes: they never change. Among 100,000 terms about one pair shares an id, and its counts add up.
    """

    def __init__(self, language: str = "en", *, also_stopped: Collection[str] = ()) -> None:
        """Prepares an empty word table.

        Args:
            language: ISO 639-1, one of LANGUAGES.
            also_stopped: words, folded, that are left out beside the language's own stop words.

        Raises:
            ValueError: there is no stemmer for the language.
        """
        if language not in _STEMMERS:
            raise ValueError(f"language {language!r} is not one of {', '.join(LANGUAGES)}")
        self.language = language
        self._stop_words = STOP_WORDS.get(language, frozenset()).union(also_stopped)
        # The memo is the table below; Snowball's own would hold every word a second time.
        self._stemmer = Stemmer.Stemmer(_STEMMERS[language], 0)
        self._lock = threading.Lock()
        self._used = 0
        self._keys = np.zeros(_TABLE_SLOTS, dtype=np.uint64)
        self._values = np.full(_TABLE_SLOTS, bm25.UNKNOWN, dtype=np.int64)

    def passage(self, text: str, average_length: float = AVERAGE_LENGTH) -> SparseVector:
        """Weighs a passage's terms.

        Args:
            text: any length; empty gives an empty vector.
            average_length: mean terms per passage of the collection, > 0.
        """
        encoded = _encoded(text)
        with self._lock:
            indices, values, known = bm25.weigh_text(encoded, self._keys, self._values, K1, B, average_length)
        if not known:
            indices, values = bm25.weigh_terms(self._terms(encoded), K1, B, average_length)
        return SparseVector(indices=indices, values=values)

    def query(self, text: str) -> SparseVector:
        """Weighs a query's terms by how often they occur in it."""
        encoded = _encoded(text)
        with self._lock:
            indices, values, known = bm25.count_text(encoded, self._keys, self._values)
        if not known:
            indices, values = bm25.count_terms(self._terms(encoded))
        return SparseVector(indices=indices, values=values)

    def _terms(self, encoded: NDArray[np.uint8]) -> NDArray[np.int64]:
        starts, ends, hashes = bm25.scan_words(encoded)
        with self._lock:
            terms = bm25.find_terms(hashes, self._keys, self._values)
            for place in np.flatnonzero(terms == bm25.UNKNOWN):
                terms[place] = self._learn(encoded[starts[place] : ends[place]].tobytes(), hashes[place])
        return terms

    def _learn(self, word: bytes, word_hash: np.uint64) -> int:
        """Stems a word that the table does not have; called under the lock."""
        if self._used >= _TABLE_SLOTS // 2:
            self._values.fill(bm25.UNKNOWN)
            self._used = 0
        text = word.decode("utf-8").lower()
        if text in self._stop_words:
            term = bm25.DROPPED
        else:
            stem = self._stemmer.stemWord(text) if len(word) <= _STEMMED_BYTES_MAX else text
            # Snowball's Serbian writes đ for dj.
            term = term_id(stem.replace("đ", "d"))
        bm25.put_term(word_hash, term, self._keys, self._values)
        self._used += 1
        return term


def _encoded(text: str) -> NDArray[np.uint8]:
    folded = text if text.isascii() else fold(text)
    return np.frombuffer(folded.encode("utf-8", errors="replace"), dtype=np.uint8)


def term_id(stem: str) -> int:
    """The stem's id, 1..2^32-1, stable across versions and machines."""
    value = 0xCBF29CE484222325
    for byte in stem.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return ((value >> 32) ^ (value & 0xFFFFFFFF)) or 1


_ACCENTED_LATIN = re.compile("([a-z])[\u0300-\u036f]+")
# Han, Hiragana, Katakana: no spaces between words, so every character is indexed by itself.
_UNSPACED = re.compile("([\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af])")


# Enough for the characters of a few languages.
_TRANSLATED_MAX = 4096


class _Folded(dict[int, int]):
    """A translation table: keeps letters, marks and digits, turns everything else outside ASCII into a space."""

    def __missing__(self, code: int) -> int:
        kept = code < 0x80 or unicodedata.category(chr(code))[0] in "LMN"
        translated = code if kept else 0x20
        if len(self) < _TRANSLATED_MAX:
            self[code] = translated
        return translated


# The stroke of đ is no accent to Unicode; Croatian typed without accents has d in its place.
_FOLDED = _Folded({ord("đ"): ord("d")})


def fold(text: str) -> str:
    """Brings spellings of the same word together.

    NFKC, case folding, accents off Latin letters, d for đ, and spaces for punctuation outside ASCII.
    """
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    bare = unicodedata.normalize("NFC", _ACCENTED_LATIN.sub(r"\1", decomposed))
    return _UNSPACED.sub(r" \1 ", bare).translate(_FOLDED)
