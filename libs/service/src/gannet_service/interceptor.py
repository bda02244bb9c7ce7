"""The one server interceptor: room, ids, trace span, credentials, deadline, admission, the error table, one log line and one metric a call.

It is one object and not a chain, because every part needs what the others know (a failed call is logged with its trace id and its code)
and each layer of a chain would cost a coroutine per message. Room comes first and keeps no books of its own: what is refused for lack of
it has no span and no log line, it is counted (`refusals.py`).
"""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import grpc
import structlog
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from prometheus_client import Gauge, Histogram

from gannet_service import call as calls
from gannet_service import metrics
from gannet_service.call import Call, Principal
from gannet_service.decode import Undecodable, guarded
from gannet_service.errors import (
    DeadlineTooShort,
    GannetError,
    InternalError,
    InvalidInput,
    NotReady,
    Overloaded,
    to_trailing_metadata,
)
from gannet_service.refusals import Refusals, refusal_metadata

# Told the decoded request and its deadline, a `time.monotonic()` instant; raises what the handler would refuse it with for lack of
# room, or returns. Runs before anything else is done for a call, so it must be cheap.
CheckRoom = Callable[[Any, float], None]
Authenticate = Callable[[Mapping[str, str]], Awaitable[Principal]]
# Raises what refuses the call, and gives back what to run when it has ended.
Admit = Callable[[str, Principal], Awaitable[Callable[[], None] | None]]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

# Infrastructure that must answer while calls are refused, and whose handlers are not ours.
EXEMPT_PREFIX = "/grpc."
OVERLOAD_RETRY_S = 0.5

_log: structlog.stdlib.BoundLogger = structlog.get_logger("rpc")
_tracer = trace.get_tracer("gannet_service")


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """See the module. `authenticate` and `admit` are None for servers that only our own gateway talks to."""

    def __init__(
        self,
        *,
        deadline_default_s: float,
        concurrent_rpcs_max: int,
        concurrent_streams_max: int,
        authenticate: Authenticate | None = None,
        admit: Admit | None = None,
        check_room: Mapping[str, CheckRoom] | None = None,
    ) -> None:
        self._deadline_default_s = deadline_default_s
        self._authenticate = authenticate
        self._admit = admit
        self._check_room = check_room or {}
        self._rpcs = _Places(most=concurrent_rpcs_max, what="calls are in work", gauge=metrics.rpcs_in_work)
        self._streams = _Places(most=concurrent_streams_max, what="streams are open", gauge=metrics.streams_open)
        # What each open stream finds in `Call.draining`.
        self._open: set[asyncio.Future[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._wrapped: dict[str, Handler] = {}
        self.refusals = Refusals()
        self._draining = False

    def drain(self) -> None:
        """Refuse new calls from now on, and tell the streams that are open; calls in work go on."""
        self._draining = True
        for stream in self._open:
            if not stream.done():
                stream.set_result(None)

    async def idle(self) -> None:
        """Return as soon as no call is in work; calls that are exempt do not count."""
        await self._idle.wait()

    async def intercept_service(  # pyright: ignore[reportIncompatibleMethodOverride] - the stub's type variables are per method
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of one call, wrapped at the method's first."""
        method: str = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(EXEMPT_PREFIX):  # pyright: ignore[reportUnnecessaryComparison] - None means no such method
            return handler
        wrapped = self._streaming(handler, method) if handler.response_streaming else self._unary(handler, method)
        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        made = self._wrapped[method] = make(wrapped, guarded(handler), _serializer(handler))
        return made

    def _unary(self, handler: Any, method: str) -> Callable[[Any, Context], Awaitable[Any]]:
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
        served = metrics.rpc_duration_s.labels(method, "OK")
        places = self._streams if handler.request_streaming else self._rpcs

        async def serve(request: Any, context: Context) -> Any:
            work = await self._begin(method, served, request, context, places)
            try:
                await self._identify(work)
                async with _deadline(work.call):
                    response = await behaviour(_checked(request), context)
                # Once the reply is on its way: span, metric and log line take 90 µs, and the caller need not wait for them.
                asyncio.get_running_loop().call_soon(work.end, "OK")
                return response
            except BaseException as error:  # noqa: BLE001 - the boundary: nothing below may answer for itself
                await work.fail(error)
            finally:
                self._release(work)

        return serve

    def _streaming(self, handler: Any, method: str) -> Callable[[Any, Context], AsyncIterator[Any]]:
        behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
        served = metrics.rpc_duration_s.labels(method, "OK")
        places = self._streams if handler.request_streaming else self._rpcs

        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:
            work = await self._begin(method, served, request, context, places)
            try:
                await self._identify(work)
                # aclosing: a client that leaves must end the handler now, not when the garbage collector comes by.
                async with contextlib.aclosing(behaviour(_checked(request), context)) as responses:
                    while True:
                        try:
                            async with _deadline(work.call):
                                response = await anext(responses)
                        except StopAsyncIteration:
                            break
                        work.messages += 1
                        yield response
                work.end("OK")
            except BaseException as error:  # noqa: BLE001 - the boundary: nothing below may answer for itself
                await work.fail(error)
            finally:
                self._release(work)

        return serve

    async def _begin(self, method: str, served: Histogram, request: Any, context: Context, places: _Places) -> _Work:
        """Take the call in, or refuse it at once and raise."""
        started = time.monotonic()
        left_s = cast("float | None", context.time_remaining())
        is_stream = places is self._streams
        if not is_stream:
            left_s = self._deadline_default_s if left_s is None else min(left_s, 86_400.0)
        deadline = None if left_s is None else started + left_s
        try:
            self._refuse_without_room(method, request, started, deadline, places)
        except GannetError as error:
            self.refusals.count(method, error)
            await context.abort(error.code, error.message, refusal_metadata(error))
        except Exception as error:  # noqa: BLE001 - a bug of the check's, answered like one of a handler's
            await _Work(method, served, context, places, started=started, deadline=deadline).fail(error)
        places.take(1)
        self._idle.clear()
        draining = asyncio.get_running_loop().create_future() if is_stream else None
        if draining is not None:
            self._open.add(draining)
        return _Work(method, served, context, places, started=started, deadline=deadline, draining=draining)

    def _refuse_without_room(
        self, method: str, request: Any, now: float, deadline: float | None, places: _Places
    ) -> None:
        if self._draining:
            raise NotReady.draining()
        if places.taken >= places.most:
            raise Overloaded(f"{places.most} {places.what} already", retry_after_s=OVERLOAD_RETRY_S)
        if deadline is None:
            return
        if deadline <= now:
            raise DeadlineTooShort("the deadline had passed when the call arrived")
        check_room = self._check_room.get(method)
        if check_room is not None and not isinstance(request, Undecodable):
            check_room(request, deadline)

    async def _identify(self, work: _Work) -> None:
        """Find out who calls, and whether they may; may keep them waiting."""
        if self._authenticate is None:
            return
        async with _deadline(work.call):
            principal = await self._authenticate(work.metadata)
            work.identify(principal)
            if self._admit is not None:
                work.leave = await self._admit(work.call.method, principal)

    def _release(self, work: _Work) -> None:
        if work.leave is not None:
            work.leave()
        if work.call.draining is not None:
            self._open.discard(work.call.draining)
        work.places.take(-1)
        if not self._rpcs.taken and not self._streams.taken:
            self._idle.set()


class _Places:
    """How many calls of a kind are in work, and how many may be."""

    def __init__(self, *, most: int, what: str, gauge: Gauge) -> None:
        self.most = most
        self.what = what
        self.taken = 0
        self._gauge = gauge

    def take(self, places: int) -> None:
        """Take places, or give them back."""
        self.taken += places
        self._gauge.set(self.taken)


class _Work:
    """One call on its way: its span, its clock, and how it ends."""

    def __init__(
        self,
        method: str,
        served: Histogram,
        context: Context,
        places: _Places,
        *,
        started: float,
        deadline: float | None,
        draining: asyncio.Future[None] | None = None,
    ) -> None:
        self.metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        self.messages = 0
        self.places = places
        self.leave: Callable[[], None] | None = None
        self._context = context
        self._method = method
        self._served = served  # looked up once a method: `labels` costs as much as the observation
        self._started = started
        self._request_id = calls.new_request_id(self.metadata)
        parent = propagate.extract(self.metadata)
        self._span: Span = _tracer.start_span(method.lstrip("/"), context=parent, kind=SpanKind.SERVER)
        # Every RPC has a task of its own, so what is set here is gone with it.
        otel_context.attach(trace.set_span_in_context(self._span, parent))
        self.call = Call(method=method, request_id=self._request_id, deadline=deadline, draining=draining)
        calls.set_current(self.call)

    def identify(self, principal: Principal) -> None:
        """Say who calls."""
        self.call = dataclasses.replace(self.call, principal=principal)
        calls.set_current(self.call)
        structlog.contextvars.bind_contextvars(tenant=principal.tenant)

    def end(self, code: str, error: BaseException | None = None) -> None:
        duration_s = time.monotonic() - self._started
        served = self._served if code == "OK" else metrics.rpc_duration_s.labels(self._method, code)
        served.observe(duration_s)
        fields: dict[str, Any] = {"method": self._method, "code": code, "duration_ms": round(duration_s * 1e3, 3)}
        if self.messages:
            fields["messages"] = self.messages
        if isinstance(error, GannetError):
            fields |= {"reason": error.reason, "message": error.message}
        if code == "INTERNAL":
            _log.error("rpc", **fields, exc_info=error)
        else:
            _log.info("rpc", **fields)
        if code in ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
            self._span.set_status(Status(StatusCode.ERROR, code))
        self._span.set_attribute("rpc.grpc.status", code)
        self._span.end()

    async def fail(self, error: BaseException) -> None:
        """Answer with what `error` stands for; never returns normally."""
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            self.end("CANCELLED")
            raise error
        if isinstance(error, grpc.aio.AbortError):
            self.end("ABORTED_BY_HANDLER", error)
            raise error
        if isinstance(error, TimeoutError):
            error = DeadlineTooShort("the deadline passed before the work was done")
        if not isinstance(error, GannetError):
            if not isinstance(error, Exception):
                raise error
            self.end("INTERNAL", error)
            error = InternalError(f"internal error; quote request id {self._request_id}")
        else:
            self.end(error.code.name, error)
        await self._context.abort(error.code, error.message, to_trailing_metadata(error))


def _serializer(handler: Handler) -> Callable[[Any], bytes] | None:
    """The handler's serializer, for replies that are not bytes already: what a cache holds goes out as it is."""
    serialize: Callable[[Any], bytes] | None = handler.response_serializer
    if serialize is None:
        return None
    return lambda response: response if isinstance(response, bytes) else serialize(response)


def _deadline(call: Call) -> asyncio.Timeout:
    if call.deadline is None:
        return asyncio.timeout(None)
    return asyncio.timeout(max(0.0, call.deadline - time.monotonic()))


def _checked(request: Any) -> Any:
    """The request, or the complaint about it; a stream of requests is checked message by message."""
    if isinstance(request, Undecodable):
        raise InvalidInput(request.message, field=request.field or None, reason="UNDECODABLE")
    if hasattr(request, "__aiter__"):
        return _checked_stream(request)
    return request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)
