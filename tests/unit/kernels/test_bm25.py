"""Word scanning, term lookup and BM25 weights against their naive references."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from reference import bm25 as reference

from gannet_kernels import bm25

TERMS = st.lists(st.integers(0, 12) | st.integers(0, 2**32 - 1), max_size=60)


def _scan(text: bytes) -> list[tuple[int, int, int]]:
    columns = bm25.scan_words(np.frombuffer(text, dtype=np.uint8))
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(text=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_scan_words_any_bytes_equals_reference(text):
    """Words, their places and their hashes are those of the regular expression."""
    assert _scan(text) == reference.scan_words(text)


def test_scan_words_identifiers_are_split_and_lowered():
    """Dots and underscores separate; case does not matter to the hash."""
    words = _scan(b"os.path.Join snake_case")

    assert [word[:2] for word in words] == [(0, 2), (3, 7), (8, 12), (13, 18), (19, 23)]
    assert reference.fnv1a(b"join") == words[2][2]


@given(terms=TERMS, k1=st.floats(0.1, 3), b=st.floats(0, 1), average_length=st.floats(1, 500))
def test_weigh_terms_any_terms_equals_reference(terms, k1, b, average_length):
    """Indices ascend without repeats and weights follow the formula; dropped terms count for nothing."""
    indices, values = bm25.weigh_terms(np.array(terms, dtype=np.int64), k1, b, average_length)

    expected = reference.weigh_terms(terms, k1, b, average_length)
    assert list(expected) == indices.tolist()
    np.testing.assert_allclose(values, list(expected.values()), rtol=1e-6)
    assert (np.dtype(np.uint32), np.dtype(np.float32)) == (indices.dtype, values.dtype)


@given(terms=TERMS)
def test_count_terms_any_terms_equals_reference(terms):
    """Every kept term is counted once per occurrence."""
    indices, counts = bm25.count_terms(np.array(terms, dtype=np.int64))

    assert reference.count_terms(terms) == dict(zip(indices.tolist(), counts.tolist(), strict=True))


@given(
    words=st.dictionaries(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), max_size=15), other=st.integers(0, 99)
)
def test_find_terms_after_put_term_equals_dict(words, other):
    """The table answers what was put in, and UNKNOWN for everything else, also when nearly full."""
    keys, values = np.zeros(16, dtype=np.uint64), np.full(16, bm25.UNKNOWN, dtype=np.int64)
    for word, term in words.items():
        bm25.put_term(np.uint64(word), term, keys, values)

    asked = [*words, other]
    found = bm25.find_terms(np.array(asked, dtype=np.uint64), keys, values)

    assert [words.get(word, bm25.UNKNOWN) for word in asked] == found.tolist()


@given(
    text=st.lists(st.sampled_from([b"one", b"Two", b"three", b"four", b" ", b"."]), max_size=30).map(b" ".join),
    known=st.sets(st.sampled_from([b"one", b"two", b"three", b"four"])),
)
def test_weigh_text_and_count_text_equal_their_steps(text, known):
    """One call gives what scanning, looking up and weighing give, and says so where a word is not in the table."""
    keys, values = np.zeros(16, dtype=np.uint64), np.full(16, bm25.UNKNOWN, dtype=np.int64)
    for term, word in enumerate(sorted(known)):
        bm25.put_term(np.uint64(reference.fnv1a(word)), term, keys, values)
    data = np.frombuffer(text, dtype=np.uint8)
    terms = bm25.find_terms(bm25.scan_words(data)[2], keys, values)
    complete = set(text.lower().replace(b".", b" ").split()) <= known

    weighed = bm25.weigh_text(data, keys, values, 1.2, 0.75, 100.0)
    counted = bm25.count_text(data, keys, values)

    assert (weighed[2], counted[2]) == (complete, complete)
    if complete:
        np.testing.assert_equal(weighed[:2], bm25.weigh_terms(terms, 1.2, 0.75, 100.0))
        np.testing.assert_equal(counted[:2], bm25.count_terms(terms))
