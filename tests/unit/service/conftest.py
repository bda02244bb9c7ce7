from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from gannet_service import call


@pytest.fixture(scope="session", autouse=True)
def tracing() -> None:
    """Spans have ids, and go nowhere."""
    trace.set_tracer_provider(TracerProvider())


@pytest.fixture(autouse=True)
def no_call() -> Iterator[None]:
    """No test begins inside an RPC that another one pretended."""
    call.set_current(None)
    yield
    call.set_current(None)
