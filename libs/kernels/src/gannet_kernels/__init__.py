"""Compute kernels: NumPy arrays in, NumPy arrays out; imports nothing of ours."""

from gannet_kernels.fusion import fuse_z_scores, order_descending, z_scores
from gannet_kernels.pooling import mean_pool
from gannet_kernels.warm import compile_all, jit_available

__all__ = ["compile_all", "fuse_z_scores", "jit_available", "mean_pool", "order_descending", "z_scores"]
