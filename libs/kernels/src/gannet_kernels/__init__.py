"""Compute kernels: NumPy arrays in, NumPy arrays out; imports nothing of ours."""

from gannet_kernels import bm25, sampling
from gannet_kernels.diversity import mmr
from gannet_kernels.fusion import fuse_relative_scores, fuse_z_scores, order_descending, relative_scores, z_scores
from gannet_kernels.pooling import cls_pool, max_pool, mean_pool
from gannet_kernels.quantisation import to_bits, to_int8
from gannet_kernels.similarity import exact_top_k, top_k
from gannet_kernels.warm import compile_all, jit_available

__all__ = [
    "bm25",
    "cls_pool",
    "compile_all",
    "exact_top_k",
    "fuse_relative_scores",
    "fuse_z_scores",
    "jit_available",
    "max_pool",
    "mean_pool",
    "mmr",
    "order_descending",
    "relative_scores",
    "sampling",
    "to_bits",
    "to_int8",
    "top_k",
    "z_scores",
]
