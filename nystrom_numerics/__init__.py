"""Nyström approximation of attention and kernels: numerics, bounds and honest checks.

>>> import numpy as np
>>> from nystrom_numerics import attention, landmarks, pinv
>>> q, k, v = np.random.default_rng(0).standard_normal((3, 8, 500, 64))
>>> attention.nystrom(q, k, v, 64, landmarks=landmarks.segment_means, pinv=pinv.svd).shape
(8, 500, 64)
"""

from nystrom_numerics import attention, bounds, errors, kernels, landmarks, linalg, lowrank, pinv

__version__ = "0.1.0"

__all__ = ["attention", "bounds", "errors", "kernels", "landmarks", "linalg", "lowrank", "pinv"]
