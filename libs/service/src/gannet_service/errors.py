"""The one tree of errors and the one table that turns it into gRPC statuses with `google.rpc` details, and back.

What survives an RPC: the type, the message, `reason`, `field`, `retry_after_s`. A cause (`raise … from`) does not.
"""

import contextlib
from collections.abc import Iterable
from typing import ClassVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "gannet"
STATUS_DETAILS_KEY = "grpc-status-details-bin"
# Replicas are behind a balancer, which knows by then that this one is going away.
DRAINING_RETRY_S = 0.5


class GannetError(Exception):
    """Base of everything a caller is told about. `reason` is a stable UPPER_SNAKE_CASE code."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self, message: str, *, reason: str | None = None, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.retry_after_s = retry_after_s


class InvalidInput(GannetError):
    """The request is wrong and stays wrong; `field` names the part of it."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_INPUT"


class Unauthenticated(GannetError):
    """No credentials, or none that are known."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(GannetError):
    """Known credentials that do not cover the resource."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class NotFound(GannetError):
    """The named resource does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(GannetError):
    """The name is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class Conflict(GannetError):
    """Somebody else was first; the caller reads again and decides."""

    code = grpc.StatusCode.ABORTED
    default_reason = "CONFLICT"


class Overloaded(GannetError):
    """A bounded queue is full; try again after `retry_after_s`."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "OVERLOADED"


class QuotaExceeded(Overloaded):
    """The tenant has used up what it may use; `retry_after_s` says when there is more, None that waiting does not help."""

    default_reason = "QUOTA_EXCEEDED"


class DeadlineTooShort(GannetError):
    """The work did not, or could not, finish in the time that the caller gave."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class DependencyUnavailable(GannetError):
    """Something that this service needs does not answer."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "DEPENDENCY_UNAVAILABLE"


class NotReady(GannetError):
    """This server is starting or going away."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "NOT_READY"

    @classmethod
    def draining(cls) -> "NotReady":
        """What a server that is going away says; the next one can be asked at once."""
        return cls("the server is shutting down", reason="DRAINING", retry_after_s=DRAINING_RETRY_S)


class Unimplemented(GannetError):
    """The method is part of the contract and not of this server."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "UNIMPLEMENTED"


class InternalError(GannetError):
    """A model failure or a bug. The caller is given an id to quote, never the text."""


_BY_CODE: dict[grpc.StatusCode, type[GannetError]] = {
    kind.code: kind
    for kind in (
        InternalError,
        InvalidInput,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        Conflict,
        Overloaded,
        DeadlineTooShort,
        DependencyUnavailable,
        Unimplemented,
    )
}


def to_status(error: GannetError) -> status_pb2.Status:
    """`error` as a `google.rpc.Status` with ErrorInfo and, where they apply, BadRequest and RetryInfo."""
    number: int = error.code.value[0]
    status = status_pb2.Status(code=number, message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    status.details.add().Pack(info)
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def to_trailing_metadata(error: GannetError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries `to_status(error)` on the wire."""
    return ((STATUS_DETAILS_KEY, to_status(error).SerializeToString()),)


def from_status(status: status_pb2.Status) -> GannetError:
    """The error that `status` stands for; an unknown code becomes InternalError."""
    by_number = {code.value[0]: code for code in grpc.StatusCode}
    kind = _BY_CODE.get(by_number.get(status.code, grpc.StatusCode.UNKNOWN), InternalError)
    reason, field, retry_after_s = None, None, None
    for detail in status.details:
        info, bad_request, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return kind(status.message, reason=reason, field=field, retry_after_s=retry_after_s)


def of_code(code: str, message: str, *, reason: str, field: str | None = None) -> GannetError:
    """The error that the status code of this name stands for, as it was written down; an unknown code becomes InternalError."""
    kind = _BY_CODE.get(
        next((each for each in grpc.StatusCode if each.name == code), grpc.StatusCode.UNKNOWN), InternalError
    )
    return kind(message, reason=reason, field=field)


def from_rpc_error(error: grpc.aio.AioRpcError) -> GannetError:
    """The error behind a failed call; a peer without our details still gives the right type."""
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            with contextlib.suppress(DecodeError):
                return from_status(status_pb2.Status.FromString(value))
    kind = _BY_CODE.get(error.code(), DependencyUnavailable)
    if error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN):
        kind = DependencyUnavailable
    return kind(error.details() or error.code().name)


def code_name(number: int) -> str:
    """The name of a `google.rpc.Code`, e.g. "NOT_FOUND"."""
    return code_pb2.Code.Name(number)  # pyright: ignore[reportArgumentType] - the stub wants its own int subtype
