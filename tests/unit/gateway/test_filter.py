"""The filter language: what it reads, how it refuses, and what it means to Qdrant Edge."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import conversions, grpc
from qdrant_edge import CountRequest, EdgeShard, Point, UpdateOperation
from unit.gateway.fakes import COLLECTION

from gannet_edge.filters import to_filter
from gannet_edge.schema import CollectionSchema, DenseSchema, edge_config
from gannet_edge.validate import Limits
from gannet_gateway.search.filter import And, Comparison, Filter, Not, Or, Present, parse
from gannet_gateway.vectors.visible import Snapshot, visible
from gannet_service.errors import InvalidInput

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def read(text: str) -> Filter | None:
    """Parse with room to spare."""
    return parse(text, "options.filter", bytes_max=2048)


def is_(key: str | None, value: Any, operator: str = "=") -> Comparison:
    """One comparison."""
    return Comparison(key=key, operator=operator, value=value)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", None),
        (" \n", None),
        ('document = "a.md"', is_(None, "a.md")),
        ("metadata.year=2024", is_("year", 2024.0)),
        ("metadata.delta>-1.5e3", is_("delta", -1500.0, ">")),
        ("metadata.\"odd key\" = 'it\\'s'", is_("odd key", "it's")),
        ("metadata.draft != true", Not(is_("draft", True))),
        ('metadata.tags:"grpc"', is_("tags", "grpc")),
        ("metadata.tags:*", Present(key="tags")),
        ('metadata.at >= "2024-05-01T14:00:00+02:00"', is_("at", NOON, ">=")),
        ('metadata.at < "2024-05-01"', is_("at", NOON.replace(hour=0), "<")),
        ('metadata.at = "2024-05-01"', is_("at", "2024-05-01")),
        ("metadata.NOT = 1 AND metadata.AND = 2", And((is_("NOT", 1.0), is_("AND", 2.0)))),
        (
            "metadata.a = 1 AND metadata.b = 2 OR metadata.c = 3",
            And((is_("a", 1.0), Or((is_("b", 2.0), is_("c", 3.0))))),
        ),
        (
            "(metadata.a = 1 AND metadata.b = 2) OR NOT metadata.c = 3",
            Or((And((is_("a", 1.0), is_("b", 2.0))), Not(is_("c", 3.0)))),
        ),
    ],
)
def test_parse_reads_the_language(text: str, expected: Filter | None):
    """Types by literal, OR before AND, quotes and escapes."""
    assert read(text) == expected


@pytest.mark.parametrize(
    "text, problem",
    [
        ("metadata", 'at character 9, the end: expected "."'),
        ("year = 2024", 'at character 1, \'year\': expected "document" or "metadata.KEY"'),
        ("metadata.year 2024", "at character 15, '2024': expected one of ="),
        ("metadata.year = x", "at character 17, 'x': expected a string in quotes"),
        ('metadata.name < "b"', "at character 17, '\"b\"': strings have no order"),
        ("metadata.draft < true", "at character 18, 'true': expected a number, or a date"),
        ("document = 7", "at character 12, '7': a document's id is a string"),
        ('document > "2024-01-01"', "at character 12, '\"2024-01-01\"': a document's id is a string"),
        ("document:*", "at character 10, '*': every passage has a document"),
        ('metadata.a = "open', "at character 14, '\"': a quote is not closed"),
        ("metadata.a = 1 ; drop", "at character 16, ';': not part of the language"),
        ("metadata.a = 1 metadata.b = 2", "at character 16, 'metadata': expected AND, OR or the end"),
        ("(metadata.a = 1", 'at character 16, the end: expected ")"'),
        ("metadata.a = 1e999", "at character 14, '1e999': a number beyond what a double holds"),
        ('metadata."a\\"b" = 1', "a key may not be empty or have"),
        ('metadata."" = 1', "a key may not be empty or have"),
        ("(" * 17 + "metadata.a = 1" + ")" * 17, "more than 16 parentheses are open"),
        (" AND ".join(["metadata.a = 1"] * 51), "more than 50 comparisons"),
        ("NOT (" * 7 + "metadata.a = 1" + ")" * 7, "nested more than 6 deep"),
        ('metadata.a = "' + "x" * 2048 + '"', "2063 bytes; the limit is 2048"),
    ],
)
def test_parse_refuses_with_the_place(text: str, problem: str):
    """Each mistake says where it is and what was expected, each limit what it is."""
    with pytest.raises(InvalidInput) as caught:
        read(text)
    assert caught.value.field == "options.filter"
    assert caught.value.message.startswith("options.filter: ")
    assert problem in caught.value.message


@given(st.text(max_size=60) | st.text(alphabet="metada.\"'()=<>!:* \\1-NOTANDOR", max_size=60))
def test_parse_any_text_gives_a_filter_or_a_refusal(text: str):
    """Whatever is sent: no other error."""
    try:
        read(text)
    except InvalidInput as error:
        assert error.field == "options.filter"  # noqa: PT017 - either outcome is right


# ---- meaning ------------------------------------------------------------------------------------------------------

KEYS = ["s", "n", "b", "t", "tags", "odd key", "a.b"]
METADATA: list[dict[str, Any]] = [
    {},
    {"s": "x", "n": 1, "b": True, "t": "2024-05-01T12:00:00Z", "tags": ["x", "y"], "odd key": "x", "a.b": "y"},
    {"s": "y", "n": 2.5, "b": False, "t": "2025-01-01", "tags": ["y"], "a.b": ["x"]},
    {"s": "x", "n": -3, "t": "no time", "tags": []},
    {"s": "true", "b": True, "n": 1.0, "odd key": 2},
    {"s": 1, "n": "1", "b": 1, "t": 5},
]
DOCUMENTS = [f"d{place}" for place in range(len(METADATA))]
OTHERS = [("other", "docs", 1, 9), ("acme", "more", 1, 9), ("acme", "docs", 8, 9), ("acme", "docs", 1, 7)]


def holds(node: Filter, document: str, metadata: dict[str, Any]) -> bool:
    """The naive reading of the language."""
    match node:
        case Not(operand):
            return not holds(operand, document, metadata)
        case And(operands):
            return all(holds(operand, document, metadata) for operand in operands)
        case Or(operands):
            return any(holds(operand, document, metadata) for operand in operands)
        case Present(key=key):
            return metadata.get(key, []) != []
        case Comparison(key=key, operator=operator, value=value):
            stored = document if key is None else metadata.get(key)
            values = stored if isinstance(stored, list) else [stored]
            return any(_compares(one, operator, value) for one in values)


def _compares(stored: Any, operator: str, value: Any) -> bool:
    if isinstance(value, datetime):
        try:
            stored = datetime.fromisoformat(stored)
        except (TypeError, ValueError):
            return False
        stored = stored if stored.tzinfo else stored.replace(tzinfo=UTC)
    elif isinstance(value, float):
        if isinstance(stored, bool) or not isinstance(stored, int | float):
            return False
    elif type(stored) is not type(value):
        return False
    return {
        "=": stored == value,
        "<": operator == "<" and stored < value,
        "<=": operator == "<=" and stored <= value,
        ">": operator == ">" and stored > value,
        ">=": operator == ">=" and stored >= value,
    }[operator]


EQUALS = st.builds(
    is_,
    st.sampled_from(KEYS),
    st.sampled_from(["x", "y", "true", "no time"]) | st.booleans() | st.sampled_from([1.0, 2.5]),
)
ORDERS = st.builds(
    is_, st.sampled_from(KEYS), st.sampled_from([-3.0, 1.0, 2.0, NOON]), st.sampled_from(["<", "<=", ">", ">="])
)
LEAVES = (
    EQUALS
    | ORDERS
    | st.builds(is_, st.none(), st.sampled_from(DOCUMENTS))
    | st.builds(Present, key=st.sampled_from(KEYS))
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(lambda some: And(tuple(some)), st.lists(inner, min_size=2, max_size=3))
        | st.builds(lambda some: Or(tuple(some)), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=5,
)


def written(node: Filter) -> str:
    """The filter in the language, every operand in parentheses."""
    match node:
        case Not(operand):
            return f"NOT ({written(operand)})"
        case And(operands):
            return " AND ".join(f"({written(operand)})" for operand in operands)
        case Or(operands):
            return " OR ".join(f"({written(operand)})" for operand in operands)
        case Present(key=key):
            return f'metadata."{key}":*'
        case Comparison(key=key, operator=operator, value=value):
            name = "document" if key is None else f'metadata."{key}"'
            literal = f'"{value.isoformat()}"' if isinstance(value, datetime) else f'"{value}"'
            return f"{name} {operator} {str(value).lower() if isinstance(value, float | bool) else literal}"


@given(FILTERS)
def test_parse_reads_back_what_is_written(node: Filter):
    """Text and tree say the same."""
    try:
        assert read(written(node)) == node
    except InvalidInput as error:
        assert "nested more than" in error.message  # noqa: PT017 - the tree may be too deep


def _payload(owner: tuple[str, str, int, int], readers: tuple[str, ...], place: int) -> dict[str, Any]:
    tenant, collection, gen_from, gen_to = owner
    return {
        "tenant": tenant,
        "collection": collection,
        "gen_from": gen_from,
        "gen_to": gen_to,
        "readers": list(readers),
        "document": DOCUMENTS[place],
        "metadata": METADATA[place],
    }


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Iterator[EdgeShard]:
    """Every document in view, and copies of all that belong to others, to other generations or to other readers.

    Half of those in view everyone reads, half the one who looks; a passage that has lost its readers is nobody's.
    """
    schema = CollectionSchema(dense={"dense": DenseSchema(size=2, distance="Dot")}, sparse={})
    opened = EdgeShard.create(str(tmp_path_factory.mktemp("shard")), edge_config(schema, 1_000))
    ours, seen = ("acme", "docs", 1, 9), [("*",), ("user:ann", "user:bob")]
    hidden = [(ours, readers) for readers in ((), ("user:an",), ("user:annn",), ("group:ann",))]
    payloads = [_payload(ours, seen[place % 2], place) for place in range(len(METADATA))]
    payloads += [
        _payload(owner, readers, place)
        for owner, readers in [*((owner, ("*",)) for owner in OTHERS), *hidden]
        for place in range(len(METADATA))
    ]
    points = [Point(number, {"dense": [1.0, 0.0]}, payload) for number, payload in enumerate(payloads)]
    opened.update(UpdateOperation.upsert_points(points))
    yield opened
    opened.close()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(node=FILTERS)
def test_visible_with_a_filter_is_the_naive_reading_inside_the_snapshot(shard: EdgeShard, node: Filter):
    """On the engine itself, through both conversions; nothing of another tenant, collection, generation or reader is ever seen."""
    snapshot = Snapshot(collection=COLLECTION, generation=7, qdrant_collection="", identities=("user:ann",))
    message = conversions.conversion.RestToGrpc.convert_filter(visible(snapshot, node))
    found = shard.count(
        CountRequest(exact=True, filter=to_filter(grpc.Filter.FromString(message.SerializeToString()), Limits()))
    )
    assert found == sum(holds(node, *pair) for pair in zip(DOCUMENTS, METADATA, strict=True))
