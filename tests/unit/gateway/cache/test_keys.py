import dataclasses
import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.fakes import collection_record

from gannet_gateway.cache.keys import cache_key, cache_window, normalised, result_key
from gannet_gateway.names import CollectionName
from gannet_gateway.search.query import Mode, Query, Rerank
from gannet_gateway.vectors.retriever import Fusion

QUERY = Query(
    text="what is a generator",
    top_k=10,
    mode=Mode.HYBRID,
    fusion=Fusion(k=60, dense_weight=1.0, sparse_weight=1.0),
    rerank=Rerank(depth=20, weight=0.3),
)
PART = st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()


def canonical(parts: list[Any]) -> list[tuple[type, Any]]:
    """What makes two lists of parts the same: types and, for floats, bits."""
    return [(type(part), struct.pack("<d", part) if isinstance(part, float) else part) for part in parts]


@given(st.lists(PART, max_size=5), st.lists(PART, max_size=5))
def test_cache_key_differs_iff_the_parts_differ(ours: list[Any], theirs: list[Any]):
    """No two lists of parts share a key, wherever their borders lie."""
    assert (cache_key("k", *ours) == cache_key("k", *theirs)) == (canonical(ours) == canonical(theirs))


def test_cache_key_of_the_same_text_cut_elsewhere_differs():
    """A text's end cannot pass for the next one's beginning."""
    assert (
        len({cache_key("k", "ab", "c"), cache_key("k", "a", "bc"), cache_key("k", "abc"), cache_key("k", "abc", "")})
        == 4
    )


def test_result_key_of_overlapping_names_and_texts_never_collides():
    """129,600 probes over tenants, collections, generations and texts that are prefixes of each other: as many keys."""
    words = ("a", "aa", "aaa", "ab", "b", "ba")
    texts = tuple(" ".join(pair) for pair in itertools.product(words, repeat=2)) + tuple(
        "a:b'\\" + word for word in words * 4
    )
    queries = [dataclasses.replace(QUERY, text=f"{text}{number}") for number in range(2) for text in texts]
    keys: set[bytes] = set()
    probes = 0
    for tenant, collection, generation in itertools.product(words, words, range(1, 31)):
        record = collection_record(CollectionName(tenant, collection), generation=generation)
        for query in queries:
            keys.add(result_key(record, query))
            probes += 1
    distinct = len({query.text for query in queries}) * len(words) ** 2 * 30
    assert probes >= 100_000
    assert len(keys) == distinct


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 2},
        {"name": CollectionName("acme", "other")},
        {"name": CollectionName("other", "docs")},
        {"created_at_s": 1.0},
        {"language": "hr"},
        {"embedding_model": "n"},
        {"embedding_model_digest": "e" * 64},
    ],
    ids=str,
)
def test_result_key_depends_on_what_the_collection_is(change: dict[str, Any]):
    """A reply belongs to one tenant's one collection at one generation with one model."""
    assert result_key(collection_record(**change), QUERY) != result_key(collection_record(), QUERY)


@pytest.mark.parametrize(
    "change",
    [
        {"text": "what is a generator?"},
        {"top_k": 11},
        {"mode": Mode.DENSE},
        {"fusion": Fusion(k=61, dense_weight=1.0, sparse_weight=1.0)},
        {"fusion": Fusion(k=60, dense_weight=1.0000000000000002, sparse_weight=1.0)},
        {"rerank": None},
        {"rerank": Rerank(depth=21, weight=0.3)},
    ],
    ids=str,
)
def test_result_key_depends_on_every_option(change: dict[str, Any]):
    """A reply belongs to one query with one set of options."""
    assert result_key(collection_record(), dataclasses.replace(QUERY, **change)) != result_key(
        collection_record(), QUERY
    )


def test_result_key_names_every_field_of_a_query():
    """A field that `repr` left out would be left out of the key."""
    shown = repr(QUERY)
    assert all(field.repr and f"{field.name}=" in shown for field in dataclasses.fields(QUERY))


def test_result_key_depends_on_the_reranker():
    """Another cross-encoder gives another order."""
    assert result_key(collection_record(), QUERY, "a") != result_key(collection_record(), QUERY, "b")


def test_normalised_joins_spellings_and_keeps_the_rest():
    """Composed and decomposed letters are one text; case and inner white space are kept."""
    assert normalised(" c\u030caj\n") == normalised("čaj") == "čaj"
    assert normalised("A  b") == "A  b"


def test_result_key_is_the_callers():
    """A reply that one user was given is looked up by no other, nor by one whose identities read like theirs run together."""
    sets = [
        (),
        ("user:ann",),
        ("user:an", "user:n"),
        ("group:ann",),
        ("group:eng", "user:ann"),
        ("user:ann', 'user:n",),
    ]
    keys = {result_key(collection_record(), dataclasses.replace(QUERY, identities=identities)) for identities in sets}
    assert len(keys) == len(sets)


def test_cache_window_is_as_long_as_the_collection_says():
    """A reply is looked for in the window that it was made in, and not from its end on; without a time to live in one without end."""
    record = collection_record(created_at_s=1000.0, cache_ttl_s=30.0)
    windows = [cache_window(record, lambda now=now: now) for now in (1000.0, 1029.9, 1030.0, 1061.0)]
    assert windows == [0, 0, 1, 2]
    keys = {result_key(record, QUERY, window=window) for window in windows}
    assert len(keys) == 3
    assert cache_window(collection_record()) is None
