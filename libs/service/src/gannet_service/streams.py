"""Bidirectional streams: many requests of one stream in work, answers in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from gannet_service import call
from gannet_service.errors import NotReady

Q = TypeVar("Q")
R = TypeVar("R")


async def in_order(
    requests: AsyncIterator[Q], answer: Callable[[Q], Awaitable[R]], *, in_flight_max: int
) -> AsyncGenerator[R]:
    """Answers requests side by side and yields the answers in the order of the requests.

    A stream that waits costs two tasks and no thread. Whoever closes the generator cancels what is in work. Once the server is
    going away no further request is read: what was read is answered, then the stream is refused like a new call, so that its
    caller goes on elsewhere with what has no answer.

    Args:
        requests: read only while fewer than `in_flight_max` are unanswered, so that a caller who does not read is held back.
        answer: answers one request; its error ends the stream, after the answers to what came before.
        in_flight_max: requests in work at once, their unread answers included, >= 1.

    Raises:
        NotReady: the server is going away.
    """
    draining = call.draining()
    unread: deque[asyncio.Task[Any]] = deque()
    reading: asyncio.Task[Q] | None = None
    more = True
    try:
        while True:
            leaving = draining is not None and draining.done()
            if reading is None and more and not leaving and len(unread) < in_flight_max:
                reading = asyncio.create_task(_next(requests))
            # What is being read while the server is going away is left to whoever the caller turns to next.
            waiting = _present(None if leaving else reading, *list(unread)[:1])
            if not waiting:
                if more:
                    raise NotReady.draining()
                return
            told = None if leaving else draining
            await asyncio.wait(_present(*waiting, told), return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading.done():
                error = reading.exception()
                if error is None:
                    unread.append(asyncio.create_task(_answer(answer, reading.result())))
                else:
                    more = False
                    if not isinstance(error, StopAsyncIteration):
                        # A request that cannot be read takes its turn like any other error.
                        unread.append(reading)
                reading = None
            while unread and unread[0].done():
                yield unread.popleft().result()
    finally:
        left = _present(reading, *unread)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _present(*futures: asyncio.Future[Any] | None) -> list[asyncio.Future[Any]]:
    return [future for future in futures if future is not None]


async def _next(requests: AsyncIterator[Q]) -> Q:
    return await anext(requests)


async def _answer(answer: Callable[[Q], Awaitable[R]], request: Q) -> R:
    return await answer(request)
