"""What every suite shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.postgres import PostgresServer
from hypothesis import settings

# Derandomised: a failure is the change's fault, not the day's. No deadline: the first example may compile a kernel.
settings.register_profile("gannet", derandomize=True, deadline=None)
settings.load_profile("gannet")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Where built-in models are built once and found again by the next run."""
    return Path(__file__).parents[1] / ".gannet" / "models"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private PostgreSQL; without its programs the tests that need it fail."""
    server = PostgresServer()
    yield server
    server.stop()
