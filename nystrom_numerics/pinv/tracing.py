r"""Every iterate of several methods on the same matrices: what each product buys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from types import MappingProxyType
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_instance
from nystrom_numerics.backend import (
    Array,
    compute_dtype,
    namespace,
    real_or_complex,
    require_matrix,
    to_numpy,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import ShapeError
from nystrom_numerics.extras import brought_by
from nystrom_numerics.linalg import backward_residual, frobenius
from nystrom_numerics.pinv.exact import svd
from nystrom_numerics.pinv.iterative import iterates
from nystrom_numerics.pinv.norm_bounds import NormBound, one_sup_bound
from nystrom_numerics.pinv.schedules import Schedule
from nystrom_numerics.pinv.steps import CHEBYSHEV, NEWTON_SCHULZ, RAZAVI, Step, hyperpower_step

__all__ = ["METHODS", "Convergence", "Trace", "convergence"]

Method = Step | Schedule | Sequence[Step]

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "Newton–Schulz": NEWTON_SCHULZ,
        "Chebyshev": CHEBYSHEV,
        "paper, eq. (14)": RAZAVI,
        "hyperpower 5": hyperpower_step(5),
        "hyperpower 9": hyperpower_step(9),
    }
)
"""The steps that :func:`convergence` compares by default."""


@dataclass(frozen=True)
class Trace:
    r"""What one method reaches, iterate by iterate, per matrix of the stack.

    Attributes
    ----------
    method : str
    products : tuple of int
        Matrix products that formed each iterate; 0 for the start, :math:`Z_0 = A^H/\beta^2`.
    residual : array (iterates, ...), real
        The relative backward residual :math:`\|AZA - A\|_F/\|A\|_F`.
    error : array (iterates, ...), real
        :math:`\|Z - A^+\|_F/\|A^+\|_F`, and 0 for a zero matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> trace = pinv.convergence(np.diag([1.0, 0.5]), {"paper": pinv.RAZAVI}, products=8).traces[0]
    >>> trace.method, trace.products, trace.residual.shape
    ('paper', (0, 4, 8), (3,))
    """

    method: str
    products: tuple[int, ...]
    residual: Array
    error: Array

    __repr__ = brief


@dataclass(frozen=True)
class Convergence:
    """A :class:`Trace` for each method, as :func:`convergence` gives it.

    Attributes
    ----------
    traces : tuple of Trace

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> found = pinv.convergence(np.diag([1.0, 0.1]))
    >>> figure = found.plot()
    >>> len(found.rows()) == sum(len(trace.products) for trace in found.traces)
    True
    """

    traces: tuple[Trace, ...]

    __repr__ = brief

    def rows(self) -> list[dict[str, Any]]:
        """A line an iterate and matrix: ``method``, ``matrix``, ``step``, ``products``, ``residual``, ``error``.

        For ``pandas.DataFrame``, or :class:`csv.DictWriter`; ``matrix`` is the index in the stack, () for one alone.
        """
        return [
            {
                "method": trace.method,
                "matrix": matrix,
                "step": step,
                "products": products,
                "residual": float(residual[(step, *matrix)]),
                "error": float(error[(step, *matrix)]),
            }
            for trace in self.traces
            for residual, error in [(to_numpy(trace.residual), to_numpy(trace.error))]
            for matrix in np.ndindex(residual.shape[1:])
            for step, products in enumerate(trace.products)
        ]

    def __str__(self) -> str:
        """Of each method the first iterate whose residual is within twice its best, in medians over the stack."""
        width = max(len(trace.method) for trace in self.traces)
        lines = [f"{'method':{width}}  products  residual     error"]
        for trace in self.traces:
            residual, error = (_medians(x) for x in (trace.residual, trace.error))
            best = int(np.argmax(residual <= 2 * np.nanmin(residual)))
            lines.append(
                f"{trace.method:{width}}  {trace.products[best]:8d}  {residual[best]:8.1e}  {error[best]:8.1e}"
            )
        return "\n".join(lines)

    def plot(self, figure: Any = None) -> Any:
        """Residual and error against products, medians and ranges over the stack.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            Where to draw, such as ``pyplot.figure(layout="constrained")``, which pyplot shows; else a new one.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        KindError
            For another kind of figure.

        Examples
        --------
        >>> import numpy as np
        >>> from nystrom_numerics import pinv
        >>> figure = pinv.convergence(np.diag([1.0, 0.5])).plot()
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['matrix products', 'matrix products']
        """
        with brought_by("plots"):
            from matplotlib.figure import Figure

        if figure is None:
            figure = Figure(figsize=(10, 4.4), layout="constrained")
        require_instance("figure", figure, Figure)
        panels = figure.subplots(1, 2, sharex=True)
        for trace, colour, marker in zip(self.traces, _cycle(_COLOURS), _cycle("os^Dv*"), strict=False):
            for axes, values in zip(panels, (trace.residual, trace.error), strict=True):
                axes.semilogy(
                    trace.products, _medians(values), f"{marker}-", color=colour, ms=4, label=trace.method
                )
                flat = _flat(values)
                axes.fill_between(trace.products, flat.min(1), flat.max(1), color=colour, alpha=0.15, lw=0)
        for axes, label in zip(
            panels, ("‖AZA − A‖ / ‖A‖, Frobenius norms", "‖Z − A⁺‖ / ‖A⁺‖, Frobenius norms"), strict=True
        ):
            axes.set(xlabel="matrix products", ylabel=label)
            axes.grid(alpha=0.3)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
        )
        return figure


_COLOURS = ("#1a56b0", "#9a3a00", "#3b8a5a", "#b8860b", "#7a4a9e", "#555555")


def _cycle(values: Iterable[str]) -> Iterator[str]:
    return (value for turn in repeat(tuple(values)) for value in turn)


def _flat(values: Array) -> np.ndarray[Any, Any]:
    """Iterates by matrices."""
    found = to_numpy(values)
    return found.reshape(len(found), -1)


def _medians(values: Array) -> np.ndarray[Any, Any]:
    """Over the stack, of each iterate."""
    return np.asarray(np.median(_flat(values), axis=1))


def convergence(
    a: Array,
    methods: Mapping[str, Method] = METHODS,
    /,
    *,
    products: int = 100,
    norm_bound: NormBound = one_sup_bound,
    rtol: float | None = None,
) -> Convergence:
    r"""How fast iterations reach :math:`A^+` on these matrices: residual and error after each step, by products.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating; 16-bit dtypes are computed in float32.
    methods : mapping of str to Step, Schedule or sequence of Step
        A single step is repeated; by default :data:`METHODS`.
    products : int
        The most matrix products of a method, the start's none.
    norm_bound : callable
        As in :func:`razavi`.
    rtol : float, optional
        Of the :func:`svd` that gives :math:`A^+`, in the dtype that is computed in: its own error, of the order of
        :math:`u\kappa`, is the floor of ``error``.

    Returns
    -------
    Convergence
        With ``rows()`` for a table, ``plot()`` for a figure, and a text of where each
        method gains no more.

    Raises
    ------
    DTypeError, KindError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: the products of every method, two more an iterate for its residual, and an SVD.  Nothing stops early: what a
    method does after it has converged, such as rounding that grows in the null space, is shown.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> methods = {"paper": pinv.RAZAVI, "planned": pinv.plan(condition=10.0, tol=1e-9)}
    >>> print(pinv.convergence(np.diag([1.0, 0.5, 0.1]), methods, products=40))
    method   products  residual     error
    paper          32   2.5e-17   3.5e-16
    planned        12   1.4e-14   1.4e-14
    """
    require_instance("methods", methods, Mapping, "a mapping of names to Step, Schedule or sequence of Step")
    if not methods:
        raise ShapeError("methods", "empty", "a method at least")
    most = require_count("products", products)
    xp = namespace(a=a)
    real_or_complex(xp, a=a)
    require_matrix("a", a)
    a = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
    exact = svd(a, rtol=rtol).value
    size = frobenius(exact)
    size = xp.where(size == 0, 1.0, size)
    traces = []
    for name, method in methods.items():
        steps = _affordable(require_instance("methods", name, str, "names"), method, most)
        found = list(iterates(a, steps, norm_bound=norm_bound))
        traces.append(
            Trace(
                name,
                (0, *accumulate(step.matmuls for step in steps)),
                xp.stack([backward_residual(a, z) for z in found]),
                xp.stack([frobenius(z - exact) / size for z in found]),
            )
        )
    return Convergence(tuple(traces))


def _affordable(name: str, method: Any, most: int) -> list[Step]:
    """The steps of a method while their products last; at least one."""
    needs = f"Step, Schedule or sequence of Step under {name!r}"
    require_instance("methods", method, (Step, Schedule, Sequence), needs)
    if isinstance(method, Step):
        method = [method] * (most // method.matmuls)
    steps = list(method.steps if isinstance(method, Schedule) else method)
    for step in steps:
        require_instance("methods", step, Step, needs)
    spent = accumulate(step.matmuls for step in steps)
    kept = [step for step, products in zip(steps, spent, strict=True) if products <= most]
    if not kept:
        raise ShapeError("methods", f"no step under {name!r}", f"a step of at most {most} products")
    return kept
