"""Where work on a text runs."""

import threading

import pytest

from gannet_gateway.threads import INLINE_CHARACTERS_MAX, for_length


@pytest.mark.parametrize("length", [0, INLINE_CHARACTERS_MAX])
async def test_work_on_a_short_text_stays_on_the_event_loop(length: int):
    """It is not worth a handover."""
    assert await for_length(length, threading.get_ident) == threading.get_ident()


async def test_work_on_a_long_text_leaves_the_event_loop():
    """It would hold everybody up."""
    assert await for_length(INLINE_CHARACTERS_MAX + 1, threading.get_ident) != threading.get_ident()
