"""Filters against a naive evaluation, over Qdrant Edge itself."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import grpc
from qdrant_edge import CountRequest, EdgeShard, Point, UpdateOperation

from gannet_edge.filters import DEPTH_MAX, to_filter
from gannet_edge.schema import CollectionSchema, DenseSchema, edge_config
from gannet_edge.validate import Limits
from gannet_service.errors import InvalidInput

WORDS = ["a", "b", "c"]
POINTS = [{"word": word, "number": number} for word in WORDS for number in range(4)] + [
    {"word": "a", "flag": True},
    {"number": 2, "flag": False},
    {"flag": 1},
]


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Iterator[EdgeShard]:
    schema = CollectionSchema(dense={"dense": DenseSchema(size=2, distance="Dot")}, sparse={})
    opened = EdgeShard.create(str(tmp_path_factory.mktemp("shard")), edge_config(schema, 1_000))
    points = [Point(number, {"dense": [1.0, 0.0]}, payload) for number, payload in enumerate(POINTS)]
    opened.update(UpdateOperation.upsert_points(points))
    yield opened
    opened.close()


def field(**condition) -> grpc.Condition:
    return grpc.Condition(field=grpc.FieldCondition(**condition))


# Each is a condition and what it means for a payload and an id.
def keyword(word):
    return field(key="word", match=grpc.Match(keyword=word)), lambda payload, _: payload.get("word") == word


def keywords(words):
    match = grpc.Match(keywords=grpc.RepeatedStrings(strings=words))
    return field(key="word", match=match), lambda payload, _: payload.get("word") in words


def except_keywords(words):
    match = grpc.Match(except_keywords=grpc.RepeatedStrings(strings=words))
    return field(key="word", match=match), lambda payload, _: "word" in payload and payload["word"] not in words


def boolean(value):
    return field(key="flag", match=grpc.Match(boolean=value)), lambda payload, _: payload.get("flag") is value


def bounds(low, high):
    condition = field(key="number", range=grpc.Range(gte=low, lt=high))
    return condition, lambda payload, _: "number" in payload and low <= payload["number"] < high


def has_id(ids):
    messages = [grpc.PointId(num=number) for number in ids]
    return grpc.Condition(has_id=grpc.HasIdCondition(has_id=messages)), lambda _, number: number in ids


def empty(key):
    return grpc.Condition(is_empty=grpc.IsEmptyCondition(key=key)), lambda payload, _: key not in payload


def combine(must, should, must_not):
    """A nested filter, and Qdrant's meaning of it."""
    message = grpc.Filter(
        must=[one for one, _ in must], should=[one for one, _ in should], must_not=[one for one, _ in must_not]
    )

    def meaning(payload, number):
        return (
            all(holds(payload, number) for _, holds in must)
            and (not should or any(holds(payload, number) for _, holds in should))
            and not any(holds(payload, number) for _, holds in must_not)
        )

    return grpc.Condition(filter=message), meaning


LEAF = st.one_of(
    st.builds(keyword, st.sampled_from(WORDS)),
    st.builds(keywords, st.lists(st.sampled_from(WORDS), unique=True)),
    st.builds(except_keywords, st.lists(st.sampled_from(WORDS), min_size=1, unique=True)),
    st.builds(boolean, st.booleans()),
    st.builds(bounds, st.integers(0, 4), st.integers(0, 4)),
    st.builds(has_id, st.lists(st.integers(0, len(POINTS)), unique=True, max_size=4)),
    st.builds(empty, st.sampled_from(["word", "number"])),
)
FILTER = st.recursive(
    LEAF,
    lambda inner: st.builds(
        combine, st.lists(inner, max_size=2), st.lists(inner, max_size=2), st.lists(inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTER)
def test_to_filter_selects_what_the_naive_evaluation_selects(shard, drawn):
    """Every combination of conditions counts the same points as plain Python does."""
    condition, meaning = drawn
    chosen = to_filter(grpc.Filter(must=[condition]), Limits())
    expected = sum(meaning(payload, number) for number, payload in enumerate(POINTS))
    assert shard.count(CountRequest(exact=True, filter=chosen)) == expected


def test_to_filter_nested_too_deep_is_refused():
    """One level more than allowed is refused before anything recurses further."""
    condition = grpc.Condition(is_null=grpc.IsNullCondition(key="a"))
    for _ in range(DEPTH_MAX):
        condition = grpc.Condition(filter=grpc.Filter(must=[condition]))
    with pytest.raises(InvalidInput, match=f"nested more than {DEPTH_MAX} deep"):
        to_filter(grpc.Filter(must=[condition]), Limits())


@pytest.mark.parametrize(
    "condition",
    [
        grpc.Condition(),
        field(key="a"),
        field(key="a", match=grpc.Match()),
        field(key="a", range=grpc.Range(lt=float("nan"))),
    ],
    ids=["condition", "field", "match", "NaN"],
)
def test_to_filter_of_an_empty_condition_is_refused(condition):
    """A condition that says nothing would select everything."""
    with pytest.raises(InvalidInput, match=r"filter.should\[0\]"):
        to_filter(grpc.Filter(should=[condition]), Limits())
