"""What can go wrong, each with its remedy.

Bad arguments raise an :class:`ArgumentError` that names the argument, says what it got and what it
needs.  What an iteration came to is not an exception but a :class:`Status`, carried by its result.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ArgumentError",
    "CapacityError",
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
    """Base class of everything this package raises on purpose."""


class ArgumentError(NystromError):
    """An argument that cannot be used.

    Parameters
    ----------
    argument : str
        Its name in the signature.
    got, needs : str
        What was received and what is required.
    """

    def __init__(self, argument: str, got: str, needs: str) -> None:
        super().__init__(argument, got, needs)
        self.argument, self.got, self.needs = argument, got, needs

    def __str__(self) -> str:
        return f"`{self.argument}` is {self.got}; it needs {self.needs}"


class DerivativeError(NystromError, RuntimeError):
    """A second derivative of something whose first one is given in closed form."""


class ShapeError(ArgumentError, ValueError):
    """Wrong rank, an empty axis, or axes that do not match."""


class RangeError(ArgumentError, ValueError):
    """A number outside its range, such as more landmarks than tokens."""


class NonFiniteError(ArgumentError, ValueError):
    """NaN or infinity where a check was asked for."""


class IndefiniteError(ArgumentError, ValueError):
    """A matrix that is not symmetric positive semidefinite, given to a method that needs one.

    Attributes
    ----------
    pivot : int
        The index where it showed.
    size : float
        The negative residual met there, or by how much two mirrored entries differ.
    """

    def __init__(self, argument: str, got: str, pivot: int, size: float) -> None:
        super().__init__(argument, got, "a symmetric positive semidefinite matrix")
        self.args = (argument, got, pivot, size)
        self.pivot, self.size = pivot, size


class DTypeError(ArgumentError, TypeError):
    """A dtype that is not a real floating one, or dtypes that differ."""


class KindError(ArgumentError, TypeError):
    """An object of another type than asked for, such as a matrix in place of a kernel."""


class MemoryLimitError(ArgumentError, MemoryError):
    """What does not fit in memory, refused before it is allocated: how much it takes, and how much there is."""


class NamespaceError(ArgumentError, TypeError):
    """Not an array, or arrays of different libraries."""


class DeviceError(ArgumentError, ValueError):
    """Arrays of one library on different devices."""


class RankMismatchError(ArgumentError, ValueError):
    """Ranks of a process group that call one function with arguments that do not go together.

    Attributes
    ----------
    ranks : tuple of int
        Those whose argument is not that of the first rank, or that refused a call of their own.
    """

    def __init__(self, argument: str, got: str, needs: str, ranks: tuple[int, ...]) -> None:
        super().__init__(argument, got, needs)
        self.args = (argument, got, needs, ranks)
        self.ranks = ranks


class RankError(NystromError, RuntimeError):
    """A rank of a process group that has died, has stopped, or does not come to what the others wait in.

    Attributes
    ----------
    ranks : tuple of int
        Those at fault, by their numbers in the group; empty where nothing tells.
    """

    def __init__(self, story: str, ranks: tuple[int, ...]) -> None:
        super().__init__(story, ranks)
        self.story, self.ranks = story, ranks

    def __str__(self) -> str:
        return self.story


class CapacityError(NystromError, MemoryError):
    """Arrays that would not fit the memory there is, refused before any is made.

    Attributes
    ----------
    needs, has : int
        Bytes.
    ranks : tuple of int
        Those whose memory does not do.
    """

    def __init__(self, needs: int, has: int, ranks: tuple[int, ...]) -> None:
        super().__init__(needs, has, ranks)
        self.needs, self.has, self.ranks = needs, has, ranks

    def __str__(self) -> str:
        return (
            f"{self.needs:,} bytes are needed and {self.has:,} are free on rank {self.ranks[0]}"
            + (f" (and too few on {len(self.ranks) - 1} more)" if len(self.ranks) > 1 else "")
            + ": use more ranks, shorter shards or a narrower dtype"
        )


class NotInstalledError(NystromError, ModuleNotFoundError):
    """An optional part was asked for, and what it needs is not installed.

    Attributes
    ----------
    name : str
        The module that is not here.
    extra : str
        The extra of this package that brings it.
    """

    def __init__(self, name: str, extra: str) -> None:
        super().__init__(name, extra)
        self.name, self.extra = name, extra

    def __str__(self) -> str:
        return f"{self.name} is not installed; this brings it: pip install 'nystrom_numerics[{self.extra}]'"


class Status(IntEnum):
    """What an iteration came to, from best to worst; ``remedy`` says what to do."""

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
    """Whether bounds were verified, and if not, why; ``remedy`` says what to do."""

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
