"""Calls that carry credentials, a request id and a deadline, are repeated where that is safe, and raise our errors."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from gannet_client.errors import GannetError, InvalidInput, Overloaded, Unavailable, from_rpc_error

MESSAGE_BYTES_MAX = 64 << 20

Q = TypeVar("Q")
R = TypeVar("R")

_CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Keepalive alone does not notice a stopped peer; with ping_timeout it does, within 2 s.
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.http2.ping_timeout_ms", 1000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Repeating is ours: gRPC's own retries know neither RetryInfo nor what has been handed to the caller.
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a call that the server could not take is made, and how long is waited in between.

    Attributes:
        attempts_max: calls made in all, 1 or more; the defaults sum up to about 9 s, in which a killed server is back.
        pause_initial_s: the first pause, doubled by each further one, shortened by up to half at random.
        pause_max_s: the longest pause, unless the server asks for a longer one.
    """

    attempts_max: int = 10
    pause_initial_s: float = 0.1
    pause_max_s: float = 2.0

    def pause_s(self, attempt: int, error: GannetError) -> float | None:
        """Seconds to wait after `attempt` (from 1) failed with `error`, or None if it must not be repeated."""
        # What is overloaded or over quota is asked again only when it says when.
        repeatable = isinstance(error, Unavailable) or (
            isinstance(error, Overloaded) and error.retry_after_s is not None
        )
        if not repeatable or attempt >= self.attempts_max:
            return None
        backoff_s = min(self.pause_initial_s * 2 ** (attempt - 1), self.pause_max_s)
        jittered_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        return max(jittered_s, error.retry_after_s or 0.0)


class Transport:
    """One channel and what every call on it has in common."""

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None,
        credentials: grpc.ChannelCredentials | None,
        retry: RetryPolicy,
        user: str = "",
        groups: Sequence[str] = (),
    ) -> None:
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            # grpc would fail on every call, without saying why.
            raise InvalidInput("api_key: only printable ASCII characters can be sent")
        self.channel: grpc.aio.Channel = (
            grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)
        )
        self.retry = retry
        self._caller = () if api_key is None else (("authorization", f"Bearer {api_key}"),)
        if user or groups:
            self._caller += (("gannet-user", user), ("gannet-groups", ",".join(groups)))

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """What goes with a call."""
        return (*self._caller, ("x-request-id", request_id))

    async def unary(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, timeout_s: float) -> R:
        """Make a call, again while the server cannot take it and time is left.

        Raises:
            GannetError: what the last attempt ended with.
        """
        attempts = _Attempts(self.retry, timeout_s)
        while True:
            try:
                return await method(request, timeout=attempts.left_s(), metadata=self.metadata(attempts.request_id))
            except grpc.aio.AioRpcError as error:
                await attempts.failed(error)

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q, timeout_s: float
    ) -> AsyncGenerator[R]:
        """Make a server-streaming call; repeated only before its first message. Closing the iterator cancels the call."""
        attempts = _Attempts(self.retry, timeout_s)
        while True:
            call = method(request, timeout=attempts.left_s(), metadata=self.metadata(attempts.request_id))
            started = False
            try:
                async for response in call:
                    started = True
                    yield response
                return
            except grpc.aio.AioRpcError as error:
                if started:
                    raise from_rpc_error(error, attempts.request_id) from error
                await attempts.failed(error)
            finally:
                call.cancel()


class _Attempts:
    """The attempts of one call, which share a request id and a deadline."""

    def __init__(self, policy: RetryPolicy, timeout_s: float) -> None:
        self.request_id = new_request_id()
        self._policy = policy
        self._deadline = time.monotonic() + timeout_s
        self._made = 0

    def left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    async def failed(self, cause: grpc.aio.AioRpcError) -> None:
        """Wait until it is time for the next attempt, or raise."""
        self._made += 1
        error = from_rpc_error(cause, self.request_id)
        pause_s = self._policy.pause_s(self._made, error)
        if pause_s is None or pause_s >= self.left_s():
            raise error from cause
        await asyncio.sleep(pause_s)


def new_request_id() -> str:
    """A fresh id for a call."""
    return uuid.uuid4().hex
