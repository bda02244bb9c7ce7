"""What is known of the RPC in work: ids, deadline, tenant. Carried in a context variable, so that logs and outgoing calls have it."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry import propagate, trace
from opentelemetry.trace import Span

from gannet_service.errors import DeadlineTooShort

REQUEST_ID_KEY = "x-request-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls: the tenant, and the id of the credential (never the credential).

    `scopes` are what the caller may do; `identities` who they read as ("user:ann", "group:eng"), sorted, each once.
    """

    tenant: str
    credential: str
    scopes: frozenset[str] = frozenset()
    identities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One RPC.

    Attributes:
        method: full name, "/package.Service/Method".
        request_id: the caller's, or a fresh one.
        deadline: a `time.monotonic()` instant, or None where there is none (bidirectional streams).
        principal: who calls; None before that is known, and in servers that let every call in.
        draining: done once the server is going away; None where nobody tells.
    """

    method: str
    request_id: str
    deadline: float | None
    principal: Principal | None = None
    draining: asyncio.Future[None] | None = None


_current: ContextVar[Call | None] = ContextVar("gannet_call", default=None)


def current() -> Call | None:
    """The RPC that this task works for, if any."""
    return _current.get()


def set_current(call: Call | None) -> None:
    """Make `call` current for this task and the tasks that it starts."""
    _current.set(call)


def principal() -> Principal:
    """The caller; raises RuntimeError outside of an authenticated RPC, which is a bug."""
    call = _current.get()
    if call is None or call.principal is None:
        raise RuntimeError("no authenticated call in work")
    return call.principal


def identities() -> tuple[str, ...]:
    """Whom the caller reads as; nobody outside of an authenticated RPC, who reads what everyone does."""
    call = _current.get()
    return () if call is None or call.principal is None else call.principal.identities


def deadline_s() -> float | None:
    """The `time.monotonic()` instant at which the caller stops waiting; None where there is none."""
    call = _current.get()
    return None if call is None else call.deadline


def draining() -> asyncio.Future[None] | None:
    """What is done once the server is going away; None outside of an RPC."""
    call = _current.get()
    return None if call is None else call.draining


def remaining_s(limit_s: float) -> float:
    """Seconds that may be spent from now on: what is left of the caller's deadline, at most `limit_s`.

    Raises:
        DeadlineTooShort: nothing is left.
    """
    call = _current.get()
    if call is None or call.deadline is None:
        return limit_s
    left_s = call.deadline - time.monotonic()
    if left_s <= 0:
        raise DeadlineTooShort("the deadline passed before the work was done")
    return min(left_s, limit_s)


def new_request_id(metadata: Mapping[str, str]) -> str:
    """The caller's request id if it is a sane one (1 to 128 printable ASCII characters), else a fresh one."""
    given = metadata.get(REQUEST_ID_KEY, "")
    if 0 < len(given) <= 128 and given.isascii() and given.isprintable():
        return given
    return uuid.uuid4().hex


def outgoing_metadata(span: Span) -> tuple[tuple[str, str], ...]:
    """Request id and trace context for the next hop, whose parent is `span`."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    call = _current.get()
    if call is not None:
        carrier[REQUEST_ID_KEY] = call.request_id
    return tuple(carrier.items())


def trace_id() -> str:
    """The current trace id in hex, or an empty string outside of a trace."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
