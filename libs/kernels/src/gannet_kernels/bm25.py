"""BM25 over hashed words: find words in bytes, map them to terms, weigh the terms."""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, kernel

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)

# What the table of terms answers for a word it has not seen; term ids are 32 bits wide, so no id is negative.
UNKNOWN = -1
# The id of words that are not indexed (stop words).
DROPPED = 0


@kernel("u8[:]", fastmath=EXACT)
def scan_words(text: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Finds the words of a UTF-8 text and hashes each in lower case.

    A word is a longest run of ASCII letters, ASCII digits and bytes >= 0x80 (parts of non-ASCII characters: the caller
    has turned punctuation outside ASCII into spaces). So `os.path.join` is three words and `snake_case` is two. The
    hash is 64-bit FNV-1a over the word's bytes with A-Z folded to a-z.
    Reference: `tests/reference/bm25.py`.

    Args:
        text: u8[N], contiguous; N may be 0.

    Returns:
        starts i64[M], ends i64[M] (exclusive), hashes u64[M], in the order of the text.
    """
    count = 0
    inside = False
    for place in range(text.shape[0]):
        word = _is_word_byte(text[place])
        if word and not inside:
            count += 1
        inside = word

    starts = np.empty(count, dtype=np.int64)
    ends = np.empty(count, dtype=np.int64)
    hashes = np.empty(count, dtype=np.uint64)
    found = 0
    place = 0
    while place < text.shape[0]:
        if not _is_word_byte(text[place]):
            place += 1
            continue
        starts[found] = place
        value = FNV_OFFSET
        while place < text.shape[0] and _is_word_byte(text[place]):
            byte = np.uint64(text[place])
            if 65 <= text[place] <= 90:
                byte += np.uint64(32)
            value = (value ^ byte) * FNV_PRIME
            place += 1
        ends[found] = place
        hashes[found] = value
        found += 1
    return starts, ends, hashes


@kernel(fastmath=EXACT)
def _is_word_byte(byte: int) -> bool:
    return byte >= 128 or 97 <= byte <= 122 or 65 <= byte <= 90 or 48 <= byte <= 57


@kernel("u64[:]", "u64[:]", "i64[:]", fastmath=EXACT)
def find_terms(hashes: NDArray[np.uint64], keys: NDArray[np.uint64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Looks words up in an open-addressing table.

    Args:
        hashes: u64[M], words.
        keys: u64[2^k], a slot is free where `values` is UNKNOWN; at least one slot must be free.
        values: i64[2^k], the term id of the key in the same slot.

    Returns:
        i64[M], the term id of each word, UNKNOWN for those the table does not have.
    """
    terms = np.empty(hashes.shape[0], dtype=np.int64)
    for word in range(hashes.shape[0]):
        terms[word] = values[_slot(hashes[word], keys, values)]
    return terms


@kernel("u8[:]", "u64[:]", "i64[:]", "f64", "f64", "f64", fastmath=EXACT)
def weigh_text(
    text: NDArray[np.uint8],
    keys: NDArray[np.uint64],
    values: NDArray[np.int64],
    k1: float,
    b: float,
    average_length: float,
) -> tuple[NDArray[np.uint32], NDArray[np.float32], bool]:
    """`weigh_terms` of a text whose words are all in the table, in one call: entering a kernel costs more than its work.

    Args:
        text: u8[N], as `scan_words` takes it.
        keys: u64[2^k], as `find_terms` takes them.
        values: i64[2^k], likewise.
        k1: as `weigh_terms` takes it.
        b: likewise.
        average_length: likewise.

    Returns:
        indices u32[n], values f32[n], and whether the table has all words; nothing is weighed where it has not.
    """
    terms, known = _terms_of(text, keys, values)
    indices, weights = weigh_terms(terms, k1, b, average_length)
    return indices, weights, known


@kernel("u8[:]", "u64[:]", "i64[:]", fastmath=EXACT)
def count_text(
    text: NDArray[np.uint8], keys: NDArray[np.uint64], values: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.float32], bool]:
    """`count_terms` of a text whose words are all in the table; arguments and result as `weigh_text`."""
    terms, known = _terms_of(text, keys, values)
    indices, counts = count_terms(terms)
    return indices, counts, known


@kernel(fastmath=EXACT)
def _terms_of(
    text: NDArray[np.uint8], keys: NDArray[np.uint64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], bool]:
    _, _, hashes = scan_words(text)
    terms = find_terms(hashes, keys, values)
    for word in range(terms.shape[0]):
        if terms[word] == UNKNOWN:
            return terms[:0], False
    return terms, True


@kernel("u64", "i64", "out u64[:]", "out i64[:]", fastmath=EXACT)
def put_term(word: np.uint64, term: int, keys: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
    """Writes a word's term id into the table of `find_terms`; the caller keeps a slot free."""
    slot = _slot(word, keys, values)
    keys[slot] = word
    values[slot] = term


@kernel(fastmath=EXACT)
def _slot(word: np.uint64, keys: NDArray[np.uint64], values: NDArray[np.int64]) -> np.int64:
    # Linear probing. FNV's low bits are its well mixed ones.
    last = keys.shape[0] - 1
    slot = np.int64(word & np.uint64(last))
    while values[slot] != UNKNOWN and keys[slot] != word:
        slot = np.int64((slot + 1) & last)
    return slot


@kernel("i64[:]", "f64", "f64", "f64", fastmath=EXACT)
def weigh_terms(
    terms: NDArray[np.int64], k1: float, b: float, average_length: float
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Weighs a passage's terms by BM25 without the IDF, which the index multiplies in.

    tf·(k1 + 1) / (tf + k1·(1 - b + b·length/average_length)), Robertson & Zaragoza 2009, equation 3.15; the length
    counts the terms that are kept.
    Reference: `tests/reference/bm25.py`.

    Args:
        terms: i64[M], ids in 1..2^32-1 in any order; DROPPED ones are skipped. M may be 0.
        k1: > 0.
        b: 0..1.
        average_length: > 0, the mean number of kept terms per passage.

    Returns:
        indices u32[n] ascending and unique, values f32[n] > 0.
    """
    indices, counts = count_terms(terms)
    length = 0.0
    for place in range(counts.shape[0]):
        length += counts[place]
    base = k1 * (1.0 - b + b * length / average_length)
    weights = np.empty(counts.shape[0], dtype=np.float32)
    for place in range(counts.shape[0]):
        frequency = np.float64(counts[place])
        weights[place] = np.float32(frequency * (k1 + 1.0) / (frequency + base))
    return indices, weights


@kernel("i64[:]", fastmath=EXACT)
def count_terms(terms: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Counts each term: a query's weights, since the textbook's query side saturates nowhere (k3 = infinity).

    Reference: `tests/reference/bm25.py`.

    Args:
        terms: i64[M], ids in 1..2^32-1 in any order; DROPPED ones are skipped. M may be 0.

    Returns:
        indices u32[n] ascending and unique, counts f32[n] >= 1.
    """
    ordered = np.sort(terms)
    distinct = 0
    previous = DROPPED
    for place in range(ordered.shape[0]):
        if ordered[place] != previous:
            distinct += 1
            previous = ordered[place]
    indices = np.empty(distinct, dtype=np.uint32)
    counts = np.empty(distinct, dtype=np.float32)
    last = -1
    previous = DROPPED
    for place in range(ordered.shape[0]):
        if ordered[place] == DROPPED:
            continue
        if ordered[place] != previous:
            last += 1
            previous = ordered[place]
            indices[last] = np.uint32(previous)
            counts[last] = 0.0
        counts[last] += 1.0
    return indices, counts
