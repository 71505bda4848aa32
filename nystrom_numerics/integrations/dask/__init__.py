r"""Kernels over a cluster: points (n, d) in chunks, on :mod:`dask.array`.

Points are a Dask array or dataframe, in memory, of a file (:func:`memory_mapped`) or of Zarr
(``dask.array.from_zarr``); a NumPy array is taken as one chunk.  :func:`chunked_kernel` makes a kernel of them, and
from it come landmarks, the Nyström factor as a Dask array, and ridge regression; :class:`Nystroem` and
:class:`KernelRidge` are the same as estimators.

What is drawn is drawn here, in NumPy, from what is one number a point, such as the residual diagonal; points stay
where they are, and of them only landmarks and proposals travel.  Work on chunks is a function of the chunk and of
the landmarks, and sums are taken in the order of the chunks: neither the number of workers nor the death of one
changes a bit of a result.
"""

from nystrom_numerics.extras import brought_by

with brought_by("dask"):
    from nystrom_numerics.integrations.dask.chunks import memory_mapped
    from nystrom_numerics.integrations.dask.estimators import KernelRidge, Nystroem
    from nystrom_numerics.integrations.dask.factor import ChunkedFactor, nystrom_factor
    from nystrom_numerics.integrations.dask.kernel import ChunkedKernel, chunked_kernel
    from nystrom_numerics.integrations.dask.landmarks import (
        accelerated_rpcholesky,
        kmeans,
        ridge_leverage,
        uniform,
    )
    from nystrom_numerics.integrations.dask.ridge import falkon, normal_equations

__all__ = [
    "ChunkedFactor",
    "ChunkedKernel",
    "KernelRidge",
    "Nystroem",
    "accelerated_rpcholesky",
    "chunked_kernel",
    "falkon",
    "kmeans",
    "memory_mapped",
    "normal_equations",
    "nystrom_factor",
    "ridge_leverage",
    "uniform",
]
