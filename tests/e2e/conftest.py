"""The real stack for tests that share it."""

from collections.abc import Iterator

import pytest
from e2e.running import RunningStack, start_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory, models_dir) -> Iterator[RunningStack]:
    """One stack for all tests that leave it as they found it."""
    running = start_stack(tmp_path_factory.mktemp("stack") / "home", models_dir)
    yield running
    running.stop()
    running.close()
