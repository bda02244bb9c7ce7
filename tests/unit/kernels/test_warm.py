"""Compilation ahead of serving."""

import os
import subprocess
import sys

from gannet_kernels import bm25, fusion, pooling
from gannet_kernels._jit import EXACT

KERNELS = [
    pooling.mean_pool,
    fusion.fuse_z_scores,
    fusion.order_descending,
    bm25.scan_words,
    bm25.find_terms,
    bm25.put_term,
    bm25.weigh_terms,
    bm25.count_terms,
]


def test_compile_all_in_a_fresh_process_compiles_every_kernel():
    """No kernel is left to compile in the middle of a request."""
    # Kernels that only other kernels call are compiled into those, so only the ones in KERNELS are asked.
    program = f"""
import gannet_kernels
from gannet_kernels import bm25, fusion, pooling
gannet_kernels.compile_all()
assert gannet_kernels.jit_available()
compiled = {{**vars(bm25), **vars(fusion), **vars(pooling)}}
print([name for name in {[kernel.__name__ for kernel in KERNELS]} if not compiled[name].signatures])
"""

    assert _run(program) == "[]"


def test_kernels_are_compiled_without_gil_and_with_stated_fast_math():
    """Every kernel is nogil, serial, and leaves NaN alone."""
    for kernel in KERNELS:
        options = kernel.targetoptions
        assert options["nogil"]
        assert not options.get("parallel")
        assert not set(options["fastmath"] or EXACT) & {"fast", "nnan", "ninf"}


def test_compile_all_without_the_compiler_still_runs():
    """NUMBA_DISABLE_JIT=1 runs the same code as plain Python, without a warning."""
    program = "import gannet_kernels as k; k.compile_all(); print(k.jit_available())"

    assert _run(program, NUMBA_DISABLE_JIT="1") == "False"


def _run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()
