"""Compute kernels: NumPy arrays in, NumPy arrays out; imports nothing of ours."""
