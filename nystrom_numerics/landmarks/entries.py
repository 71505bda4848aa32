"""What the rules that draw by scores share: entries on the host, checked, and the subset that was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from nystrom_numerics.backend import (
    Array,
    from_numpy,
    namespace,
    require_finite,
    to_numpy,
)
from nystrom_numerics.errors import IndefiniteError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.draws import require_landmarks
from nystrom_numerics.landmarks.result import ColumnSubset

__all__ = ["checked_diagonal", "finite_entries", "require_psd_landmarks", "subset_of"]


def require_psd_landmarks(kernel: Kernel, m: int) -> int:
    require_kernel(kernel)
    return require_landmarks(m, kernel.shape[0])


def checked_diagonal(kernel: Kernel) -> Any:
    """The diagonal on the host in float64; refused where it is not finite or is negative."""
    found = finite_entries(kernel.diagonal())
    least = int(found.argmin())
    if found[least] < 0:
        got = f"not PSD, with diagonal entry {found[least]:.3g} at {least}"
        raise IndefiniteError("kernel", got, least, float(found[least]))
    return found


def finite_entries(entries: Array) -> Any:
    """Kernel entries on the host in float64; refused where they are not finite."""
    require_finite(namespace(kernel=entries), kernel=entries)
    return to_numpy(entries).astype(np.float64)


def subset_of(kernel: Kernel, chosen: Any, before: int, seed: int | None) -> ColumnSubset:
    indices = from_numpy(namespace(kernel=kernel.like), np.asarray(chosen, dtype=np.int64), kernel.like)
    return ColumnSubset(indices, None, kernel.entries - before, seed)
