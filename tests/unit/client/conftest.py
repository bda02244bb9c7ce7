from collections.abc import AsyncIterator

import pytest
from fakes import gateway

from gannet_client import GannetClient, RetryPolicy


@pytest.fixture
def state() -> gateway.State:
    """What the fake gateway holds."""
    return gateway.State()


@pytest.fixture
async def target(state) -> AsyncIterator[str]:
    """Where the fake gateway listens."""
    async with gateway.serve(state) as address:
        yield address


@pytest.fixture
async def client(target) -> AsyncIterator[GannetClient]:
    """A client of the fake gateway that wastes no time between attempts."""
    retry = RetryPolicy(attempts_max=4, pause_initial_s=0.001, pause_max_s=0.002)
    async with GannetClient(target, api_key=gateway.API_KEY, timeout_s=10, retry=retry) as connected:
        yield connected
