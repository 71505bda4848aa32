"""What can go wrong, each with its remedy.

Bad arguments raise an :class:`ArgumentError` that names the argument, says what it got and what it
needs.  What an iteration came to is not an exception but a :class:`Status`, carried by its result.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

__all__ = [
    "ArgumentError",
    "CostWarning",
    "DTypeError",
    "DerivativeError",
    "DeviceError",
    "IndefiniteError",
    "KindError",
    "MemoryLimitError",
    "NamespaceError",
    "NonFiniteError",
    "NotInstalledError",
    "NystromError",
    "RangeError",
    "RankError",
    "RankMismatchError",
    "ShapeError",
    "Status",
    "Verified",
]


class NystromError(Exception):
    """Base class of everything this package raises on purpose.

    Parameters
    ----------
    *args
        As subclasses say.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> from nystrom_numerics.errors import NystromError
    >>> try:
    ...     kernels.gaussian(np.zeros((3, 2)), gamma=-1.0)
    ... except NystromError as error:
    ...     print(error)
    `gamma` is -1.0; it needs a positive number
    """


class ArgumentError(NystromError):
    """An argument that cannot be used.

    Parameters
    ----------
    argument : str
        Its name in the signature.
    got, needs : str
        What was received and what is required.

    Examples
    --------
    >>> from nystrom_numerics.errors import ArgumentError
    >>> print(ArgumentError("m", "9", "an integer from 1 to 4"))
    `m` is 9; it needs an integer from 1 to 4
    """

    def __init__(self, argument: str, got: str, needs: str) -> None:
        super().__init__(argument, got, needs)
        self.argument, self.got, self.needs = argument, got, needs

    def __str__(self) -> str:
        return f"`{self.argument}` is {self.got}; it needs {self.needs}"


class DerivativeError(NystromError, RuntimeError):
    """A second derivative of something whose first one is given in closed form.

    Parameters
    ----------
    *args : str
        The story.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import pinv
    >>> from nystrom_numerics.errors import DerivativeError
    >>> a = torch.eye(2, requires_grad=True)
    >>> try:
    ...     torch.autograd.functional.hessian(lambda a: pinv.svd(a).value.sum(), a)
    ... except DerivativeError as error:
    ...     print(type(error).__name__)
    DerivativeError
    """


class ShapeError(ArgumentError, ValueError):
    """Wrong rank, an empty axis, or axes that do not match.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`ArgumentError`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> from nystrom_numerics.errors import ShapeError
    >>> try:
    ...     linalg.frobenius(np.zeros(3))
    ... except ShapeError as error:
    ...     print(error.argument, "|", error.got)
    a | of shape (3,)
    """


class RangeError(ArgumentError, ValueError):
    """A number outside its range, such as more landmarks than tokens.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`ArgumentError`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> from nystrom_numerics.errors import RangeError
    >>> try:
    ...     landmarks.segment_means(np.zeros((3, 2)), 5)
    ... except RangeError as error:
    ...     print(error)
    `m` is 5; it needs an integer from 1 to the number of tokens, 3
    """


class NonFiniteError(ArgumentError, ValueError):
    """NaN or infinity where a check was asked for.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`ArgumentError`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> from nystrom_numerics.errors import NonFiniteError
    >>> try:
    ...     landmarks.segment_means(np.full((3, 2), np.nan), 1, check_finite=True)
    ... except NonFiniteError as error:
    ...     print(error.argument)
    x
    """


class IndefiniteError(ArgumentError, ValueError):
    """A matrix that is not symmetric positive semidefinite, given to a method that needs one.

    Parameters
    ----------
    argument, got : str
        As for :class:`ArgumentError`.
    pivot : int
        The index where it showed.
    size : float
        The negative residual met there, or by how much two mirrored entries differ.

    Attributes
    ----------
    pivot, size
        As given.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> from nystrom_numerics.errors import IndefiniteError
    >>> try:
    ...     landmarks.pivoted_cholesky(kernels.precomputed(np.array([[1.0, 2.0], [2.0, 1.0]])), 2)
    ... except IndefiniteError as error:
    ...     print(error.pivot, round(error.size, 6))
    1 -3.0
    """

    def __init__(self, argument: str, got: str, pivot: int, size: float) -> None:
        super().__init__(argument, got, "a symmetric positive semidefinite matrix")
        self.args = (argument, got, pivot, size)
        self.pivot, self.size = pivot, size


class DTypeError(ArgumentError, TypeError):
    """A dtype that is not a real floating one, or dtypes that differ.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`ArgumentError`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> from nystrom_numerics.errors import DTypeError
    >>> try:
    ...     linalg.frobenius(np.zeros((2, 2), dtype=int))
    ... except DTypeError as error:
    ...     print(error.argument, "|", error.got)
    a | of dtype int64
    """


class KindError(ArgumentError, TypeError):
    """An object of another type than asked for, such as a matrix in place of a kernel.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`ArgumentError`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> from nystrom_numerics.errors import KindError
    >>> try:
    ...     landmarks.rpcholesky(np.eye(3), 2)  # a matrix, no kernel
    ... except KindError as error:
    ...     print(error.argument)
    kernel
    """


class MemoryLimitError(ArgumentError, MemoryError):
    """What does not fit in memory, refused before it is allocated: how much it takes, and how much there is.

    Parameters
    ----------
    argument, what : str
        Its name, and what would be made of it.
    size, room : float
        Bytes.
    whose, remedy : str
        Where the room is, and what to do.
    ranks : tuple of int
        Of a process group, those whose memory does not do.

    Attributes
    ----------
    size, room : int
        Bytes that it takes, and that there are for it.
    ranks : tuple of int
        Of a process group, those whose memory does not do; else empty.

    Examples
    --------
    >>> from nystrom_numerics.errors import MemoryLimitError
    >>> error = MemoryLimitError("n", "a matrix", 3.2e9, 2.1e9, "free here", "fewer points")
    >>> isinstance(error, MemoryError), str(error)
    (True, '`n` is too large: a matrix takes 3.2 GB; it needs at most 2.1 GB, free here: fewer points')
    """

    def __init__(
        self,
        argument: str,
        what: str,
        size: float,
        room: float,
        whose: str,
        remedy: str,
        ranks: tuple[int, ...] = (),
    ) -> None:
        got = f"too large: {what} takes {size / 1e9:.3g} GB"
        super().__init__(argument, got, f"at most {room / 1e9:.3g} GB, {whose}: {remedy}")
        self.args = (argument, what, size, room, whose, remedy, ranks)
        self.size, self.room, self.ranks = int(size), int(room), ranks

    def __reduce__(self) -> tuple[type[MemoryLimitError], tuple[Any, ...]]:
        """Made anew from its arguments: Dask's way, by ``MemoryError.__new__``, Python refuses for a class of two."""
        return type(self), self.args


class NamespaceError(ArgumentError, TypeError):
    """Not an array, or arrays of different libraries.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`ArgumentError`.

    Examples
    --------
    >>> from nystrom_numerics import linalg
    >>> from nystrom_numerics.errors import NamespaceError
    >>> try:
    ...     linalg.frobenius([[1.0]])
    ... except NamespaceError as error:
    ...     print(error.argument, "|", error.got)
    a | a list
    """


class DeviceError(ArgumentError, ValueError):
    """Arrays of one library on different devices.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`ArgumentError`.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import linalg
    >>> from nystrom_numerics.errors import DeviceError
    >>> try:
    ...     linalg.backward_residual(torch.eye(2), torch.eye(2, device="meta"))
    ... except DeviceError as error:
    ...     print(error.argument)
    z
    """


class RankMismatchError(ArgumentError, ValueError):
    """Ranks of a process group that call one function with arguments that do not go together.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`ArgumentError`.
    ranks : tuple of int
        Those whose argument is not that of the first rank, or that refused a call of their own.

    Attributes
    ----------
    ranks
        As given.

    Examples
    --------
    >>> from nystrom_numerics.errors import RankMismatchError
    >>> error = RankMismatchError("m", "16 on rank 1", "64, as on rank 0", (1,))
    >>> error.argument, error.ranks
    ('m', (1,))
    """

    def __init__(self, argument: str, got: str, needs: str, ranks: tuple[int, ...]) -> None:
        super().__init__(argument, got, needs)
        self.args = (argument, got, needs, ranks)
        self.ranks = ranks


class RankError(NystromError, RuntimeError):
    """A rank of a process group that has died, has stopped, or does not come to what the others wait in.

    Parameters
    ----------
    story : str
        What was waited for, and how long.
    ranks : tuple of int
        Those at fault, by their numbers in the group; empty where nothing tells.

    Attributes
    ----------
    story, ranks
        As given.

    Examples
    --------
    >>> from nystrom_numerics.errors import RankError
    >>> print(RankError("rank 3 has not answered for 30 s", (3,)))
    rank 3 has not answered for 30 s
    """

    def __init__(self, story: str, ranks: tuple[int, ...]) -> None:
        super().__init__(story, ranks)
        self.story, self.ranks = story, ranks

    def __str__(self) -> str:
        return self.story


class CostWarning(UserWarning):
    """What was asked for may take long or much memory, said before it begins; nothing is wrong with it.

    Parameters
    ----------
    what : str
        What takes it.
    entries : int
        Kernel entries, about, where the rank is full.
    size : int
        Bytes held at once, likewise.
    seconds : float
        Of one core, likewise, for a Gaussian kernel.

    Examples
    --------
    >>> from nystrom_numerics.errors import CostWarning
    >>> print(CostWarning("the whole spectrum of 20,000 points", 4 * 10**8, 12 * 2**30, 4900.0))
    the whole spectrum of 20,000 points may take 4.0e+08 kernel entries, 12.0 GiB and 82 minutes of one core
    """

    def __init__(self, what: str, entries: int, size: int, seconds: float) -> None:
        super().__init__(what, entries, size, seconds)
        self.what, self.entries, self.size, self.seconds = what, entries, size, seconds

    def __str__(self) -> str:
        time = f"{self.seconds:.0f} seconds" if self.seconds < 120 else f"{self.seconds / 60:.0f} minutes"
        return (
            f"{self.what} may take {self.entries:.1e} kernel entries, {self.size / 2**30:.1f} GiB "
            f"and {time} of one core"
        )


class NotInstalledError(NystromError, ModuleNotFoundError):
    """An optional part was asked for, and what it needs is not installed.

    Parameters
    ----------
    name : str
        The module that is not here.
    extra : str
        The extra of this package that brings it.

    Examples
    --------
    >>> from nystrom_numerics.errors import NotInstalledError
    >>> print(NotInstalledError("torch", "models"))
    torch is not installed; this brings it: pip install 'nystrom_numerics[models]'
    """

    def __init__(self, name: str, extra: str) -> None:
        super().__init__(name, extra)
        self.name, self.extra = name, extra

    def __str__(self) -> str:
        return f"{self.name} is not installed; this brings it: pip install 'nystrom_numerics[{self.extra}]'"


class Status(IntEnum):
    """What an iteration came to, from best to worst; ``remedy`` says what to do.

    Attributes
    ----------
    CONVERGED, MAX_ITERATIONS, STAGNATED, NON_FINITE
        0 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> found = pinv.newton_schulz(np.diag([1.0, 1e-3]), iterations=3, tol=1e-8)
    >>> found.status.name, found.status.remedy.partition(":")[0]
    ('MAX_ITERATIONS', 'The iterations allowed ended before the residual met the tolerance')
    """

    CONVERGED = 0
    MAX_ITERATIONS = 1
    STAGNATED = 2
    NON_FINITE = 3

    @property
    def remedy(self) -> str:
        """What the caller can do about it."""
        return _REMEDY[self]


_REMEDY = {
    Status.CONVERGED: "Nothing to do: the residual meets the tolerance.",
    Status.MAX_ITERATIONS: (
        "The iterations allowed ended before the residual met the tolerance: raise `iterations`, "
        "or accept the result as the spectral filter that it is."
    ),
    Status.STAGNATED: (
        "The residual has stopped falling: what is left belongs to singular values that this dtype "
        "cannot resolve by products. Raise `tol`, use a wider dtype, or use `pinv.svd` with an "
        "explicit `rtol`."
    ),
    Status.NON_FINITE: (
        "NaN or infinity in the input or on the way, and the value is NaN: check the input for "
        "non-finite or overflowing entries."
    ),
}


class Verified(IntEnum):
    """Whether bounds were verified, and if not, why; ``remedy`` says what to do.

    Attributes
    ----------
    VERIFIED, NOT_NEAR, NO_GAP, NON_FINITE, FLUSHED
        0 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> pinv.verify(np.eye(2), np.zeros((2, 2))).status.name
    'NOT_NEAR'
    """

    VERIFIED = 0
    NOT_NEAR = 1
    NO_GAP = 2
    NON_FINITE = 3
    FLUSHED = 4

    @property
    def remedy(self) -> str:
        """What the caller can do about it."""
        return _TO_VERIFY[self]


_TO_VERIFY = {
    Verified.VERIFIED: "Nothing to do: the bounds hold.",
    Verified.NOT_NEAR: (
        "I − AZ could not be shown to be smaller than one: Z is no good inverse, or the matrix has less than the rank "
        "stated as far as its numbers tell. State a lower `rank`, or compute Z in a wider dtype."
    ),
    Verified.NO_GAP: (
        "The singular values σ_r and σ_{r+1} could not be told apart, so that the nearest matrix of rank r is not "
        "known to be one: state the rank at a larger gap."
    ),
    Verified.NON_FINITE: (
        "NaN or infinity in the matrices, entries 2¹⁰²² times as large as others, or a bound beyond all floats: scale "
        "the matrix."
    ),
    Verified.FLUSHED: (
        "The device takes subnormal numbers for zeros, so that entries are not what is stored: switch that off "
        "(`torch.set_flush_denormal(False)`), or verify on the host."
    ),
}
