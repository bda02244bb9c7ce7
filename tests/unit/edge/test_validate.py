import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_edge import validate
from gannet_edge.schema import CollectionSchema, DenseSchema, SparseSchema
from gannet_edge.validate import Limits
from gannet_service.errors import InvalidInput

SCHEMA = CollectionSchema(
    dense={"dense": DenseSchema(size=3, distance="Cosine")}, sparse={"bm25": SparseSchema(idf=True)}
)
LIMITS = Limits(payload_depth=3, payload_bytes=1_000, sparse_terms=5)
FLOAT32 = st.floats(width=32)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def accepts(check, *args, **kwargs) -> bool:
    try:
        check(*args, **kwargs)
    except InvalidInput:
        return False
    return True


@given(st.lists(FLOAT32, max_size=5))
def test_dense_accepts_exactly_finite_vectors_of_the_dimension(values):
    """Finite, three values, and a norm whose square fits float32."""
    good = len(values) == 3 and all(map(math.isfinite, values)) and math.hypot(*values) <= validate.NORM_MAX
    assert accepts(validate.dense, values, "dense", SCHEMA, "field") == good


@given(st.lists(st.integers(0, 9), max_size=7), st.lists(FLOAT32, max_size=7))
def test_sparse_accepts_exactly_ascending_finite_pairs(indices, values):
    """As many values as indices, no index twice, in order, at most `sparse_terms`, finite."""
    good = (
        len(indices) == len(values) <= LIMITS.sparse_terms
        and indices == sorted(set(indices))
        and all(map(math.isfinite, values))
        and math.hypot(*values) <= validate.NORM_MAX
    )
    assert accepts(validate.sparse, indices, values, "bm25", SCHEMA, limits=LIMITS, field="field") == good


def depth(value) -> int:
    """The naive reference: how many containers are inside each other."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def finite(value) -> bool:
    """The naive reference: no NaN or infinity anywhere."""
    if isinstance(value, dict | list):
        return all(map(finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_payload_accepts_exactly_shallow_finite_objects(payload):
    """Depth counts containers; a flat object has depth 1."""
    good = depth(payload) <= LIMITS.payload_depth and finite(payload)
    assert accepts(validate.payload, payload, 10, LIMITS, "field") == good


def test_payload_over_the_size_limit_names_field_and_limit():
    """The message says how large it is and how large it may be."""
    with pytest.raises(InvalidInput, match=r"points\[3\].payload: 1001 bytes, limit 1000"):
        validate.payload({}, 1_001, LIMITS, "points[3].payload")


@given(st.uuids(), st.sampled_from(["{}", "urn:uuid:{}", "{{{}}}"]))
def test_point_uuid_returns_the_canonical_form(value, form):
    """Every accepted spelling is stored as one id."""
    assert validate.point_uuid(form.format(value), "id") == str(value)


@given(st.text(max_size=40))
def test_point_uuid_of_other_text_is_refused(text):
    """Text that Python's UUID does not read is no id."""
    try:
        uuid.UUID(text)
    except ValueError:
        assert not accepts(validate.point_uuid, text, "id")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\x00", "a b", "é", "-x", "x" * 201, "a\n"])
def test_collection_name_that_is_no_plain_folder_is_refused(name):
    """Names become folders, so nothing may point out of the data folder."""
    assert not accepts(validate.collection_name, name)


def test_unknown_vector_names_those_that_exist():
    """A typo is answered with the known names."""
    with pytest.raises(InvalidInput, match="no dense vector is named 'dance'; known: dense"):
        validate.dense([1.0, 2.0, 3.0], "dance", SCHEMA, "field")
