"""Compiles every kernel before a service says that it is ready."""

import functools
import logging

from gannet_kernels._jit import KERNELS, compiler_missing, numba_type

_log = logging.getLogger(__name__)


def jit_available() -> bool:
    """Whether kernels are compiled; where not, plain Python runs in their place, slower."""
    return not compiler_missing()


@functools.cache
def compile_all() -> None:
    """Compiles every kernel for the types it states; from then on other types are refused with a TypeError.

    A type that nobody stated, such as a strided view, would otherwise be compiled in the middle of a request, which
    takes a second. From an empty cache this takes about 15 s; later processes load the machine code from disk in under
    a second. Where the package's folder cannot be written, Numba uses the user's cache folder.
    """
    if compiler_missing():
        _log.warning("kernels are not compiled, everything runs but slower: %s", compiler_missing())
        return
    for compiled, types in KERNELS:
        compiled.compile(tuple(map(numba_type, types)))
    for compiled, _ in KERNELS:
        compiled.disable_compile()
