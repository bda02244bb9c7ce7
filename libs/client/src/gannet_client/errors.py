"""What a call can raise: one tree, made from gRPC statuses and their `google.rpc` details."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

from dataclasses import dataclass
from typing import ClassVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """A part of the request that is wrong, as a dotted path, and why."""

    field: str
    description: str


class GannetError(Exception):
    """Base of everything that a call raises.

    Attributes:
        message: what the server said, fit for a person.
        reason: a stable UPPER_SNAKE_CASE code.
        violations: the parts of the request that are wrong.
        retry_after_s: when the server wants to be asked again, seconds; None if it did not say.
        request_id: the id of the call, as it stands in the server's log.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.code.name
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class InvalidInput(GannetError):
    """The request is wrong and stays wrong; `violations` name its parts."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class Unauthenticated(GannetError):
    """No API key, or one that the server does not know."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(GannetError):
    """The API key does not cover the resource."""

    code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(GannetError):
    """The named resource does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(GannetError):
    """The name is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS


class Conflict(GannetError):
    """Somebody else changed the resource first; read it again and decide."""

    code = grpc.StatusCode.ABORTED


class Overloaded(GannetError):
    """The server has too much to do, or a quota is used up."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class DeadlineExceeded(GannetError):
    """The call did not end in the time that it was given."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unavailable(GannetError):
    """The server cannot be reached, is starting or going away, or misses something that it needs."""

    code = grpc.StatusCode.UNAVAILABLE

    @property
    def is_connection_lost(self) -> bool:
        """Whether it was the connection; a server that answers gives a reason of its own."""
        return self.reason in (self.code.name, "CONNECTION_BROKEN")


class Unimplemented(GannetError):
    """The server does not have this method."""

    code = grpc.StatusCode.UNIMPLEMENTED


class ServerError(GannetError):
    """The server failed; its log says why, under `request_id`."""

    code = grpc.StatusCode.INTERNAL


_BY_CODE: dict[int, type[GannetError]] = {
    kind.code.value[0]: kind
    for kind in (
        InvalidInput,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        Conflict,
        Overloaded,
        DeadlineExceeded,
        Unavailable,
        Unimplemented,
        ServerError,
    )
}
# A server that dies under a call ends it with CANCELLED; our own cancellation is asyncio.CancelledError and never comes here.
_BY_CODE[grpc.StatusCode.CANCELLED.value[0]] = Unavailable


# grpc.aio puts this in the place of the server's status when the call ends while a message is being written (56 of 60 times
# in a tight loop, grpcio 1.85.1). The status itself is lost.
_STATUS_LOST = "Internal error from Core"


def from_rpc_error(error: grpc.aio.AioRpcError, request_id: str = "") -> GannetError:
    """The error behind a failed call; a server without our details still gives the right type."""
    if error.code() is grpc.StatusCode.INTERNAL and (error.details() or "").startswith(_STATUS_LOST):
        return Unavailable("the connection broke", reason="CONNECTION_BROKEN", request_id=request_id)
    try:
        status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType] - it has all that is read of a Call
    except ValueError:  # the details contradict the status: the status is what gRPC vouches for
        status = None
    if status is None:
        status = status_pb2.Status(code=error.code().value[0], message=error.details() or error.code().name)
    return from_status(status, request_id)


def from_status(status: status_pb2.Status, request_id: str = "") -> GannetError:
    """The error that a `google.rpc.Status` stands for; an unknown code becomes ServerError."""
    reason = ""
    retry_after_s: float | None = None
    violations: list[FieldViolation] = []
    for detail in status.details:
        info, bad_request, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad_request):
            violations += [
                FieldViolation(field=violation.field, description=violation.description)
                for violation in bad_request.field_violations
            ]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    kind = _BY_CODE.get(status.code, ServerError)
    return kind(
        status.message,
        reason=reason,
        violations=tuple(violations),
        retry_after_s=retry_after_s,
        request_id=request_id,
    )
