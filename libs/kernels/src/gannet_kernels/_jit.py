"""The one way a kernel is compiled: cached on disk, without the GIL, serial, for the types it states and no others."""

import itertools
import secrets
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

numba: Any = None
_import_error = ""
try:
    import numba
    from numba.core.bytecode import FunctionIdentity
except (ImportError, OSError) as error:  # no wheel for this platform, or LLVM's library cannot be loaded
    _import_error = str(error)
else:
    # Numba tells equally named functions apart, such as the sorts inside `argsort`, by a count that begins at 1 in every
    # process, and the count is part of the names in cached machine code. Where one process compiled some kernels and a later one the rest,
    # a third loads two functions of one name, runs the wrong one, and `sample` gave 3,338 wrong tokens of 4,000. So every process
    # counts from a place of its own.
    counts: Any = FunctionIdentity
    counts._unique_ids = itertools.count(secrets.randbits(48))  # noqa: SLF001 - there is no public way

P = ParamSpec("P")
R = TypeVar("R")

# Reordering and fused multiply-add let sums use SIMD registers; "nnan" and "ninf" are left out on purpose, so that a
# NaN that goes into a kernel comes out of it and its caller can refuse it.
FAST_SUMS: frozenset[str] = frozenset({"reassoc", "contract", "nsz"})
# Hashing has no floats, and weights that are stored must not depend on the vector width of the machine that made them.
EXACT: frozenset[str] = frozenset()

# Every compiled kernel with the types it is compiled for.
KERNELS: list[tuple[Any, tuple[str, ...]]] = []


def kernel(*types: str, fastmath: frozenset[str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compiles a function with Numba and keeps its Python type.

    Serial on purpose: `parallel=True` under the workqueue layer aborts the process when two threads call it at once,
    and the services own their threads. Without Numba, or with NUMBA_DISABLE_JIT=1, the function stays plain Python.

    Args:
        types: one per argument: `u8`, `u32`, `u64`, `i64`, `f32`, `f64` or `bool`, followed by `[:]`, `[:,:]` or `[:,:,:]` for a
            C-contiguous array; `out ` in front of one that is written to. A function that only other kernels call
            states none and takes on their types.
        fastmath: LLVM fast-math flags, one of the sets of this module.
    """

    def compile_lazily(function: Callable[P, R]) -> Callable[P, R]:
        if not compiler_missing():
            compiled: Any = numba.njit(cache=True, nogil=True, fastmath=set(fastmath) or False)(function)
            if types:
                KERNELS.append((compiled, types))
            return cast("Callable[P, R]", compiled)
        # In plain Python, NumPy would warn about the wrap-around that 64-bit hashing relies on, and about NaN.
        return np.errstate(over="ignore", invalid="ignore")(function) if types else function

    return compile_lazily


def compiler_missing() -> str:
    """Why kernels are not compiled; empty where they are."""
    if _import_error:
        return f"numba cannot be loaded ({_import_error})"
    return "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else ""


def numba_type(name: str) -> Any:
    """Numba's type of an argument as `kernel` names it."""
    scalars = {
        "u8": numba.types.uint8,
        "u32": numba.types.uint32,
        "u64": numba.types.uint64,
        "i64": numba.types.int64,
        "f32": numba.types.float32,
        "f64": numba.types.float64,
        "bool": numba.types.boolean,
    }
    writable = name.removeprefix("out ")
    scalar, _, axes = writable.partition("[")
    if not axes:
        return scalars[scalar]
    # A read-only type takes both kinds of arrays; vectors that came in a message are read-only.
    return numba.types.Array(scalars[scalar], axes.count(":"), "C", readonly=writable == name)
