"""The one way a kernel is compiled: cached on disk, without the GIL, serial."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

# Reordering and fused multiply-add let sums use SIMD registers; "nnan" and "ninf" are left out on purpose, so that a
# NaN that goes into a kernel comes out of it and its caller can refuse it.
FAST_SUMS: frozenset[str] = frozenset({"reassoc", "contract", "nsz"})
# Hashing has no floats, and weights that are stored must not depend on the vector width of the machine that made them.
EXACT: frozenset[str] = frozenset()


def kernel(*, fastmath: frozenset[str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compiles a function with Numba and keeps its Python type.

    Serial on purpose: `parallel=True` under the workqueue layer aborts the process when two threads call it at once,
    and the services own their threads. With NUMBA_DISABLE_JIT=1 the function stays plain Python.

    Args:
        fastmath: LLVM fast-math flags, one of the sets of this module.
    """

    def compile_lazily(function: Callable[P, R]) -> Callable[P, R]:
        compiled: Any = numba.njit(cache=True, nogil=True, fastmath=set(fastmath) or False)(function)
        if compiled is function:
            # Without the compiler, NumPy would warn about the wrap-around that 64-bit hashing relies on.
            return np.errstate(over="ignore")(function)
        return cast("Callable[P, R]", compiled)

    return compile_lazily
