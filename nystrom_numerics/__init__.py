"""Nyström approximation of attention and kernels: numerics, bounds and honest checks."""

__version__ = "0.1.0"
