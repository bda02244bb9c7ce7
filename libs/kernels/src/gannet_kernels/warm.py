"""Compiles every kernel before a service says that it is ready."""

import numpy as np

from gannet_kernels import bm25, fusion, pooling


def jit_available() -> bool:
    """Whether kernels are compiled; false under NUMBA_DISABLE_JIT=1, where plain Python runs."""
    return hasattr(pooling.mean_pool, "py_func")


def compile_all() -> None:
    """Calls every kernel once with the types it is used with.

    From an empty cache this takes about 4 s; later processes load the machine code from disk in 0.4 s. Where the
    package's folder cannot be written, Numba uses the user's cache folder.
    """
    pooling.mean_pool(np.ones((2, 4), dtype=np.float32), np.ones(2, dtype=np.int64), True)

    scores = np.array([0.5, 1.0])
    fusion.order_descending(fusion.fuse_z_scores(scores, scores, 0.3))

    # From bytes, as callers do it: a read-only array is another type to Numba than a writable one.
    _, _, hashes = bm25.scan_words(np.frombuffer(b"two words", dtype=np.uint8))
    keys = np.zeros(4, dtype=np.uint64)
    values = np.full(4, bm25.UNKNOWN, dtype=np.int64)
    bm25.put_term(hashes[0], 7, keys, values)
    terms = bm25.find_terms(hashes, keys, values)
    terms[:] = 7
    bm25.weigh_terms(terms, 1.2, 0.75, 100.0)
    bm25.count_terms(terms)
