import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from gannet_service import errors
from gannet_service.errors import GannetError, from_rpc_error, from_status, to_status, to_trailing_metadata

KINDS = sorted(GannetError.__subclasses__(), key=lambda kind: kind.__name__)
# The types that share a status with another: what a caller sees of them is the other.
SEEN_AS = {errors.NotReady: errors.DependencyUnavailable}
TABLE = {
    "InvalidInput": "INVALID_ARGUMENT",
    "Unauthenticated": "UNAUTHENTICATED",
    "PermissionDenied": "PERMISSION_DENIED",
    "NotFound": "NOT_FOUND",
    "AlreadyExists": "ALREADY_EXISTS",
    "Conflict": "ABORTED",
    "Overloaded": "RESOURCE_EXHAUSTED",
    "DeadlineTooShort": "DEADLINE_EXCEEDED",
    "DependencyUnavailable": "UNAVAILABLE",
    "NotReady": "UNAVAILABLE",
    "Unimplemented": "UNIMPLEMENTED",
    "InternalError": "INTERNAL",
}

text = st.text(st.characters(codec="utf-8"), max_size=50)


def gannet_errors() -> st.SearchStrategy[GannetError]:
    """Any error with any details."""
    return st.builds(
        lambda kind, message, reason, field, retry_ms: kind(
            message, reason=reason, field=field, retry_after_s=None if retry_ms is None else retry_ms / 1000
        ),
        st.sampled_from(KINDS),
        text,
        st.none() | st.from_regex(r"[A-Z][A-Z0-9_]{0,30}", fullmatch=True),
        st.none() | text,
        st.none() | st.integers(0, 10_000_000),
    )


def test_error_table_for_every_type_is_the_documented_one():
    """The table of docs/architecture.md, no type left out."""
    assert {kind.__name__: kind.code.name for kind in KINDS} == TABLE


@given(gannet_errors())
def test_from_status_of_to_status_returns_what_was_raised(error: GannetError):
    """Type, message, reason, field and retry delay survive the wire."""
    status = status_pb2.Status.FromString(to_status(error).SerializeToString())
    back = from_status(status)
    assert type(back) is SEEN_AS.get(type(error), type(error))
    assert (back.message, back.reason, back.field) == (error.message, error.reason, error.field)
    assert back.retry_after_s == pytest.approx(error.retry_after_s, abs=1e-9)


@given(gannet_errors())
def test_from_rpc_error_with_details_returns_what_was_raised(error: GannetError):
    """The trailing metadata carries everything; the plain message is not needed."""
    metadata = grpc.aio.Metadata(*to_trailing_metadata(error))
    back = from_rpc_error(grpc.aio.AioRpcError(error.code, grpc.aio.Metadata(), metadata, details="other"))
    assert (back.code, back.message, back.reason, back.field) == (error.code, error.message, error.reason, error.field)


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_from_rpc_error_without_details_returns_the_right_type(code: grpc.StatusCode):
    """A peer that is not ours: the code alone decides, and a call that was cut off is an unavailable dependency."""
    back = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="why"))
    known = code.name in TABLE.values()
    assert back.code is (code if known else grpc.StatusCode.UNAVAILABLE)
    assert back.message == "why"


def test_from_rpc_error_with_broken_details_returns_the_right_type():
    """Details that are no Status are ignored, not a crash."""
    metadata = grpc.aio.Metadata((errors.STATUS_DETAILS_KEY, b"\xff\xff\xff"))
    back = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), metadata, details="why"))
    assert (type(back), back.message) == (errors.NotFound, "why")


def test_from_status_with_an_unknown_code_returns_internal():
    """A code that no table knows is a bug of the peer."""
    assert type(from_status(status_pb2.Status(code=77, message="m"))) is errors.InternalError


def test_to_status_with_a_field_names_it_in_bad_request():
    """Other languages read the standard details."""
    status = to_status(errors.InvalidInput("top_k: 0", field="top_k", retry_after_s=0.25))
    info, violations, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail, message in zip(status.details, (info, violations, retry), strict=True):
        assert detail.Unpack(message)
    assert status.code == code_pb2.INVALID_ARGUMENT
    assert (info.reason, info.domain) == ("INVALID_INPUT", "gannet")
    assert [violation.field for violation in violations.field_violations] == ["top_k"]
    assert retry.retry_delay.ToMilliseconds() == 250
