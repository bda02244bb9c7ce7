"""Signs of life while nothing else is said."""

import asyncio
from collections.abc import AsyncGenerator

from gannet_gateway.answers.events import Event, Heartbeat


async def with_heartbeats(events: AsyncGenerator[Event], period_s: float) -> AsyncGenerator[Event]:
    """`events`, with a Heartbeat after every `period_s` of silence behind the first. Closing it closes `events`."""
    begun = False
    pending: asyncio.Task[Event] | None = None
    try:
        while True:
            pending = asyncio.ensure_future(anext(events))
            while not (await asyncio.wait([pending], timeout=period_s if begun else None))[0]:
                yield Heartbeat()
            try:
                event = pending.result()
            except StopAsyncIteration:
                return
            begun = True
            yield event
    finally:
        if pending is not None and not pending.done():
            pending.cancel()
            await asyncio.wait([pending])
        await events.aclose()
