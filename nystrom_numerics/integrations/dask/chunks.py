"""Points in chunks: what counts as some, a file as some, work on each chunk, and what fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import dask
import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from dask.system import CPU_COUNT
from distributed import get_client
from distributed.system import MEMORY_LIMIT

from nystrom_numerics.arguments import require_count, require_instance
from nystrom_numerics.backend import floating, namespace
from nystrom_numerics.errors import MemoryLimitError, NamespaceError, RangeError, ShapeError

__all__ = [
    "Points",
    "Targets",
    "as_points",
    "as_targets",
    "compute",
    "each_chunk",
    "is_chunked",
    "memory_mapped",
    "require_room_here",
    "require_room_on_workers",
    "take_points",
]

Points: TypeAlias = Any
"""Points (n, d): a Dask array or dataframe, or a NumPy array, which counts as one chunk."""

Targets: TypeAlias = Any
"""Numbers (n,) or (n, c) beside points: a Dask array, series or dataframe, or a NumPy array."""

_A_CHUNKED = "a Dask array or dataframe, or a NumPy array"


def is_chunked(x: Any) -> bool:
    """Whether it is a collection of Dask's, of which nothing is computed until it is asked for."""
    return bool(dask.is_dask_collection(x))


def as_points(name: str, x: Points, *, lengths: bool = True) -> da.Array:
    """Real floating points in chunks of whole rows, none of them empty; with ``lengths`` their numbers are known.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.
    """
    found = _as_array(name, x, lengths)
    if found.ndim != 2 or 0 in found.shape:
        raise ShapeError(name, f"of shape {found.shape}", "shape (n, d), neither empty")
    floating(namespace(**{name: found._meta}), **{name: found._meta})
    if found.numblocks[1] > 1:
        found = found.rechunk({1: -1})
    if 0 in found.chunks[0]:
        found = found.rechunk({0: tuple(rows for rows in found.chunks[0] if rows)})
    return found


def _as_array(name: str, x: Any, lengths: bool) -> da.Array:
    if hasattr(x, "to_dask_array"):  # a dataframe or a series
        x = x.to_dask_array(lengths=True if lengths else None)
    if isinstance(x, np.ndarray):
        namespace(**{name: x})
        if not x.size or not x.ndim:
            raise ShapeError(name, f"of shape {x.shape}", "one axis or two, neither empty")
        x = da.from_array(x, chunks=x.shape, name=False)
    if not isinstance(x, da.Array) or type(x._meta) is not np.ndarray:
        of = f" of {type(x._meta).__name__}" if isinstance(x, da.Array) else ""
        raise NamespaceError(name, f"a {type(x).__name__}{of}", _A_CHUNKED)
    if lengths and any(rows != rows for rows in x.shape):
        needs = "chunks of known lengths, which `compute_chunk_sizes()` finds out"
        raise ShapeError(name, f"of shape {x.shape}", needs)
    return x


def as_targets(name: str, y: Targets, x: da.Array) -> da.Array:
    """Real floating numbers (n, c) in the chunks of the points, a column for those of one axis.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.
    """
    found = _as_array(name, y, lengths=True)
    floating(namespace(**{name: found._meta}), **{name: found._meta})
    if found.ndim not in (1, 2) or found.shape[0] != x.shape[0] or 0 in found.shape:
        raise ShapeError(name, f"of shape {found.shape}", f"shape ({x.shape[0]},) or ({x.shape[0]}, columns)")
    found = found[:, None] if found.ndim == 1 else found
    return found.rechunk({0: x.chunks[0], 1: -1})


# ---------------------------------------------------------------- files


@dataclass(frozen=True)
class _File:
    """An array file, opened anew wherever a part of it is asked for: what travels is its name."""

    path: str
    changed: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(np.load(self.path, mmap_mode="r")[index])


def memory_mapped(path: str | Path, /, *, rows: int = 2**18) -> da.Array:
    """The array of a ``.npy`` file, memory-mapped by each worker in chunks of ``rows`` rows.

    ``dask.array.from_array`` of an ``np.memmap`` sends the entries themselves to the workers, all of them; this
    sends the name of the file, which has to be there for each worker.

    Parameters
    ----------
    path : str or path
        Of a ``.npy`` file, where each worker finds it.
    rows : int
        A chunk, at least 1; the last one may be shorter.

    Returns
    -------
    Dask array
        Of the shape and dtype in the file.

    Raises
    ------
    KindError, RangeError
        Naming the argument: no path, or no such file with numbers of one axis at least.

    Notes
    -----
    Cost: the head of the file now; a chunk is read where and when it is computed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from nystrom_numerics.integrations.dask import memory_mapped
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "x.npy", np.arange(10.0).reshape(5, 2))
    ...     found = memory_mapped(Path(folder) / "x.npy", rows=3)
    ...     print(found.chunks, float(found.sum().compute()))
    ((3, 2), (2,)) 45.0
    """
    require_instance("path", path, (str, Path))
    rows = require_count("rows", rows)
    place = Path(path).resolve()
    try:
        held = np.load(place, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RangeError("path", f"{str(path)!r}: {error}", "a readable .npy file of numbers") from error
    if not isinstance(held, np.ndarray) or not held.ndim or not held.size:
        raise RangeError("path", f"{str(path)!r}, without rows", "a .npy file of one array with some")
    file = _File(str(place), place.stat().st_mtime_ns, held.shape, held.dtype)
    meta = np.empty((0,) * held.ndim, dtype=held.dtype)
    return da.from_array(file, chunks=(rows, *held.shape[1:]), meta=meta, asarray=False)


# ---------------------------------------------------------------- work on chunks


def each_chunk(
    function: Callable[..., Any], x: da.Array, *beside: Sequence[Any], **shared: Any
) -> list[Delayed]:
    """``function(chunk, *its own of beside, **shared)`` for each chunk of rows, in their order, yet to be computed."""
    work = delayed(partial(function, **shared), pure=False)
    blocks = x.to_delayed().ravel()
    return [work(*arguments) for arguments in zip(blocks, *beside, strict=True)]


def compute(tasks: Sequence[Delayed]) -> list[Any]:
    """The results of tasks, in their order."""
    return list(dask.compute(*tasks))


def take_points(x: da.Array, index: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The points at ``index`` (l,), in that order: (l, d), and nothing else, travels here."""
    ends = np.cumsum(x.chunks[0])
    chunk = np.searchsorted(ends, index, side="right")
    blocks, places, tasks = x.to_delayed().ravel(), [], []
    for c in np.unique(chunk):
        at = np.nonzero(chunk == c)[0]
        places.append(at)
        tasks.append(delayed(_taken, pure=False)(blocks[c], index[at] - (ends[c] - x.chunks[0][c])))
    found = np.empty((len(index), x.shape[1]), dtype=x.dtype)
    for at, rows in zip(places, compute(tasks), strict=True):
        found[at] = rows
    return found


def _taken(chunk: np.ndarray[Any, Any], index: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array(chunk[index])


# ---------------------------------------------------------------- memory


def _workers() -> tuple[int, str]:
    """Bytes that a task may hold on the least of the workers there are, and in words whose they are."""
    try:
        found = get_client().scheduler_info(n_workers=-1)["workers"].values()
    except ValueError:  # no cluster: Dask's threads share this machine
        return MEMORY_LIMIT // CPU_COUNT, "the memory of this machine by its threads"
    each = [int(one["memory_limit"]) // int(one["nthreads"]) for one in found if one["memory_limit"]]
    return (min(each), "the memory of a worker by its threads") if each else (MEMORY_LIMIT, "this machine's")


def _require(name: str, what: str, size: float, room: int, whose: str, remedy: str) -> None:
    if size > room:
        raise MemoryLimitError(name, what, size, room, whose, remedy)


def require_room_on_workers(name: str, x: da.Array, width: int, what: str, *, extra: float = 0.0) -> None:
    """Refuse work on a chunk that takes ``width`` numbers a row, and ``extra`` bytes, where a worker has less.

    Raises
    ------
    MemoryLimitError
        Before anything is allocated.
    """
    known = [rows for rows in x.chunks[0] if rows == rows]
    rows = max(known, default=0)
    room, whose = _workers()
    remedy = f"smaller chunks, of {rows} rows now, or fewer landmarks"
    _require(name, what, float(rows) * width * max(4, x.dtype.itemsize) + extra, room, whose, remedy)


def require_room_here(name: str, size: float, what: str, remedy: str) -> None:
    """Refuse ``size`` bytes beyond the memory of this machine, before they are allocated; raises MemoryLimitError."""
    _require(name, what, size, MEMORY_LIMIT, "the memory of this machine", remedy)
