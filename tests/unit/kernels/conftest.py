"""Kernels are tested as services run them: compiled for the types they state, and refusing others."""

import pytest

from gannet_kernels import compile_all


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    compile_all()
