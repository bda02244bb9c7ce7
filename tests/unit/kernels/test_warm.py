"""Compilation ahead of serving, and life without a compiler."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gannet_kernels import exact_top_k
from gannet_kernels._jit import EXACT, KERNELS

TESTS = Path(__file__).resolve().parents[2]

# What a machine without LLVM does: importing Numba raises.
NO_NUMBA = "import sys; sys.modules['numba'] = None"


def test_compile_all_in_a_fresh_process_compiles_every_kernel():
    """No kernel is left to compile in the middle of a request."""
    program = """
import importlib
import pkgutil
import gannet_kernels
from gannet_kernels._jit import KERNELS
gannet_kernels.compile_all()
assert gannet_kernels.jit_available()
compiled = len(KERNELS)
for module in pkgutil.iter_modules(gannet_kernels.__path__):
    importlib.import_module(f"gannet_kernels.{module.name}")
print(len(KERNELS) - compiled, [kernel.__name__ for kernel, _ in KERNELS if not kernel.signatures])
"""

    assert _run(program) == "0 []"


def test_machine_code_of_two_processes_has_different_names():
    """What one process left in the cache and what another added to it can be loaded together."""
    program = """
import gannet_kernels
from numba.core.bytecode import FunctionIdentity
print(FunctionIdentity.from_function(gannet_kernels.top_k.py_func).unique_name)
"""

    assert _run(program) != _run(program)


def test_kernels_are_compiled_without_gil_and_with_stated_fast_math():
    """Every kernel is nogil, serial, and leaves NaN alone."""
    assert len(KERNELS) > 10
    for compiled, _ in KERNELS:
        options = compiled.targetoptions
        assert options["nogil"]
        assert not options.get("parallel")
        assert not set(options["fastmath"] or EXACT) & {"fast", "nnan", "ninf"}


@pytest.mark.parametrize("rows", [np.ones((3, 2)), np.ones((2, 3), dtype=np.float32).T], ids=["float64", "strided"])
def test_kernel_of_types_it_does_not_state_refuses_them(rows):
    """Another type or layout is an error, not a second of compiling in the middle of a request."""
    with pytest.raises(TypeError, match="No matching definition"):
        exact_top_k(np.ones(2, dtype=np.float32), rows, 1)


def test_kernel_of_read_only_arrays_takes_them():
    """Vectors that came in a message are read-only."""
    rows = np.frombuffer(np.ones((3, 2), dtype=np.float32).tobytes(), dtype=np.float32).reshape(3, 2)

    assert exact_top_k(rows[0], rows, 3)[1].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "before,environment,reason",
    [("", {"NUMBA_DISABLE_JIT": "1"}, "NUMBA_DISABLE_JIT is set"), (NO_NUMBA, {}, "numba cannot be loaded")],
    ids=["disabled", "missing"],
)
def test_compile_all_without_the_compiler_says_so(before, environment, reason):
    """Whoever starts the service reads that it is slow, and why."""
    program = f"""
import logging, sys
{before}
logging.basicConfig(stream=sys.stdout, format="%(message)s")
import gannet_kernels
gannet_kernels.compile_all()
assert not gannet_kernels.jit_available()
"""

    said = _run(program, **environment)

    assert said.startswith("kernels are not compiled, everything runs but slower")
    assert reason in said


def test_kernels_without_the_compiler_pass_their_own_tests():
    """Everything runs as plain Python too, and to the same results."""
    program = f"""
{NO_NUMBA}
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "unit/kernels", "--ignore=unit/kernels/test_warm.py"]))
"""

    assert "100%" in _run(program)


def _run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=TESTS,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
