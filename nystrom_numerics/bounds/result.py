"""What a bound, an estimate and a certificate are, and how they say it in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import inf, isnan

from nystrom_numerics.arguments import require_instance, require_number, require_probability
from nystrom_numerics.errors import RangeError

__all__ = ["Bound", "Certificate", "Estimate", "Hypothesis", "Norm", "Side", "bound", "require_failure"]


class Side(Enum):
    """Which side of the truth a value is on.

    Attributes
    ----------
    LOWER, UPPER
        "at least" and "at most".

    Examples
    --------
    >>> from nystrom_numerics import bounds
    >>> bounds.Side.UPPER.value
    'at most'
    """

    LOWER = "at least"
    UPPER = "at most"


class Norm(Enum):
    """What is measured; the value is its name in words.

    Attributes
    ----------
    SPECTRAL, FROBENIUS, TRACE, MAX

    Examples
    --------
    >>> from nystrom_numerics import bounds
    >>> [norm.value for norm in bounds.Norm]
    ['spectral norm', 'Frobenius norm', 'trace norm', 'largest entry in modulus']
    """

    SPECTRAL = "spectral norm"
    FROBENIUS = "Frobenius norm"
    TRACE = "trace norm"
    MAX = "largest entry in modulus"


@dataclass(frozen=True)
class Hypothesis:
    """A condition of a theorem, whether it holds on the given input, and the numbers that decide.

    Attributes
    ----------
    text : str
    holds : bool
    found : str

    Examples
    --------
    >>> from nystrom_numerics import bounds
    >>> bounds.Hypothesis("m at least 3", False, "m = 2")
    Hypothesis(text='m at least 3', holds=False, found='m = 2')
    """

    text: str
    holds: bool
    found: str


@dataclass(frozen=True)
class Bound:
    """One inequality for the norm of an error, with all it rests on.

    Attributes
    ----------
    value : float or None
        ``None`` where a hypothesis fails: then nothing is claimed.
    side : Side
    norm : Norm
    probability : float or None
        1 for a deterministic bound; below 1 it holds for that share of the draws at least; ``None`` for a
        bound of the mean over the draws.
    holds_under : tuple of Hypothesis
        Checked on the given input.
    source : str
        Paper and theorem, and where a constant is not the printed one or was not confirmed, that too.
    vacuous : bool
        No better than the trivial bound: 0 from below; from above that of the approximation by nothing,
        or what the docstring of the maker says.
    asymptotic : bool
        The probability is that of the limit of many draws, not of those made.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> found = bounds.wedin(2.0, 3.0, 0.1)
    >>> round(found.value, 4), found.side.value, found.certainty
    (1.4562, 'at most', 'with certainty')
    >>> print(found)
    spectral norm at most 1.456 with certainty (Wedin 1973, Theorem 4.1; constant recalled, tested here)
    """

    value: float | None
    side: Side
    norm: Norm
    probability: float | None
    holds_under: tuple[Hypothesis, ...]
    source: str
    vacuous: bool
    asymptotic: bool = False

    def __post_init__(self) -> None:
        """What a bound says must be sayable: a side, a norm, a probability, and a number unless a hypothesis fails."""
        require_instance("side", self.side, Side)
        require_instance("norm", self.norm, Norm)
        for one in self.holds_under:
            require_instance("holds_under", one, Hypothesis)
        if self.probability is not None:
            needs = "a probability above 0, 1 for certainty, or None for a bound of the mean"
            require_number("probability", self.probability, lambda p: 0 < p <= 1, needs)
        if self.value is not None:
            require_number("value", self.value, lambda x: not isnan(x), "a number, or None")
        if (self.value is None) != bool(self.failed):
            needs = "a number where all hypotheses hold, and None where one fails"
            raise RangeError("value", f"{self.value}", needs)

    @property
    def failed(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that do not hold."""
        return tuple(h for h in self.holds_under if not h.holds)

    @property
    def certainty(self) -> str:
        """The probability in words."""
        if self.probability is None:
            return "in the mean over the draws"
        if self.probability == 1:
            return "with certainty"
        if self.asymptotic:
            return f"with asymptotic probability 1 − {1 - self.probability:.3g}"
        return f"with probability at least 1 − {1 - self.probability:.3g}"

    def with_probability(self, failure: float, /) -> Bound:
        r"""A bound of the mean as one with probability 1 − ``failure``, by Markov: value / failure.

        Parameters
        ----------
        failure : float
            In (0, 1).

        Returns
        -------
        Bound
            This one, if it has a probability already.

        Raises
        ------
        RangeError
            ``failure`` is not in (0, 1).
        """
        require_failure(failure)
        if self.probability is not None or self.side is Side.LOWER:
            return self
        value = None if self.value is None else self.value / failure
        source = f"{self.source}; Markov's inequality"
        return replace(self, value=value, probability=1 - failure, source=source)

    def __str__(self) -> str:
        if self.value is None:
            lacking = "; ".join(f"{h.text} ({h.found})" for h in self.failed)
            return f"no {self.norm.value} bound from {self.source}: needs {lacking}"
        tail = ", vacuous" if self.vacuous else ""
        return f"{self.norm.value} {self.side.value} {self.value:.4g} {self.certainty} ({self.source}){tail}"


@dataclass(frozen=True)
class Estimate:
    """A number near the truth.

    Attributes
    ----------
    value : float
    standard_error : float or None
        Of the value over the draws; ``None`` where it is not known.
    matvecs : int
        Products with the operator, a transposed one included, or exact rows where rows are sampled.
    source : str

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> found = bounds.hutchpp(lambda v: 2.0 * v, np.zeros(6), matvecs=18)
    >>> round(found.value, 6), found.matvecs
    (12.0, 18)
    """

    value: float
    standard_error: float | None
    matvecs: int
    source: str


@dataclass(frozen=True)
class Certificate:
    """Where the norm of an error lies: two bounds, and an estimate between them where there is one.

    Attributes
    ----------
    lower : Bound
    estimate : Estimate or None
    upper : Bound

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> certificate, _, _ = bounds.psd_sandwich(np.array([0.5, 0.1]))
    >>> certificate.lower.value, certificate.upper.value, round(certificate.ratio, 6)
    (0.5, 0.6, 1.2)
    >>> certificate.certainty
    'with certainty'
    """

    lower: Bound
    estimate: Estimate | None
    upper: Bound

    @property
    def norm(self) -> Norm:
        return self.upper.norm

    @property
    def probability(self) -> float:
        """That both sides hold, by the union bound; bounds of the mean are none and count as 0."""
        sides = (self.lower.probability, self.upper.probability)
        return max(0.0, sum(0.0 if p is None else p for p in sides) - 1)

    @property
    def certainty(self) -> str:
        """Both sides' together, in words: certain, for any input at least so often, or asymptotic; never one for
        another."""
        sides = (self.lower, self.upper)
        if any(side.probability is None for side in sides):
            return "in the mean over the draws"
        if self.probability == 1:
            return "with certainty"
        share = f"{100 * self.probability:.4g} %"
        if any(side.asymptotic for side in sides):
            return f"asymptotic: {share} of the draws in the limit of many rows"
        return f"at least {share} of the draws, for any input"

    @property
    def ratio(self) -> float:
        """Upper over lower: 1 is exact, infinity says nothing."""
        low, high = self.lower.value, self.upper.value
        if low is None or high is None or (low <= 0 and high > 0):
            return inf
        return 1.0 if high == 0 else high / low

    def __str__(self) -> str:
        return f"{self.lower}\n{self.upper}"


def bound(
    value: float,
    side: Side,
    norm: Norm,
    source: str,
    *,
    trivial: float,
    probability: float | None = 1.0,
    holds_under: Sequence[Hypothesis] = (),
    asymptotic: bool = False,
) -> Bound:
    """A :class:`Bound` whose value is withheld where a hypothesis fails, judged against the trivial bound."""
    known = all(h.holds for h in holds_under)
    worse = value >= trivial > 0 if side is Side.UPPER else value <= trivial
    return Bound(
        float(value) if known else None,
        side,
        norm,
        probability,
        tuple(holds_under),
        source,
        known and worse,
        asymptotic,
    )


def require_failure(failure: float) -> float:
    """A probability of failure, strictly between 0 and 1.

    Raises
    ------
    RangeError
    """
    return require_probability("failure", failure)
