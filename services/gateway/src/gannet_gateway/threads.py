"""Work on a text of unknown length: where it runs depends on how long that is."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

# A handover to a thread and back costs the event loop 100 µs; so do finding headings in, or cutting, 16,000 characters.
INLINE_CHARACTERS_MAX = 16_000

P = ParamSpec("P")
R = TypeVar("R")


async def for_length(length: int, work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """What `work` returns: run here if `length` characters or bytes are few, else on a thread, so that the event loop is not held up."""
    if length <= INLINE_CHARACTERS_MAX:
        return work(*arguments, **options)
    return await asyncio.to_thread(work, *arguments, **options)
