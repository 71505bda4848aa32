"""The heads of a batch, each as an operator of its own: no head's certificate depends on its batch-mates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_instance
from nystrom_numerics.attention.arguments import tokens_of
from nystrom_numerics.attention.nystrom import NystromOperator
from nystrom_numerics.attention.operator_certificate import certify_operator
from nystrom_numerics.attention.operators import AttentionOperator, OperatorBase
from nystrom_numerics.attention.row_errors import KnowsItsErrors, RowErrors
from nystrom_numerics.backend import Array, generator, require_matrix
from nystrom_numerics.errors import ShapeError

__all__ = ["certify_heads"]


def certify_heads(
    operator: AttentionOperator,
    v: Array,
    /,
    *,
    rows: int | None = None,
    within: float | None = None,
    most: int | None = None,
    failure: float = 0.01,
    rng: np.random.Generator | int = 0,
) -> np.ndarray[Any, Any]:
    r"""The certificate of every head of a batch, as :func:`certify_operator` gives it of one.

    Parameters
    ----------
    operator : AttentionOperator
        Of q (..., n_q, d) and k (..., n_k, d), grouped or not, with any masks but an additive one.
    v : array (..., n_k, d_v)
        Its leading axes broadcast to those of the operator's ``shape``.
    rows, within, most, failure, rng
        As there.  ``failure`` is that of each head alone.  With one seed each head's certificate is that of the head
        by itself; of a generator one seed is drawn.

    Returns
    -------
    array (...) of object
        :class:`AttentionCertificate` of each head.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As :func:`certify_operator`; and where ``v`` does not broadcast.

    Notes
    -----
    Cost: that of :func:`certify_operator` for each head.  Rows of Ŝ are read of the batch and all but one head's are
    dropped, except of the paper's estimator: for h heads h² times what a head's rows of Ŝ take, without kernel entries.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 200, 4))
    >>> found = attention.certify_heads(attention.tangent_operator(q, k), v, within=0.2)
    >>> found.shape, bool(found[1].reach.reached)
    ((2,), True)
    """
    require_instance(
        "operator", operator, AttentionOperator, "an operator, as `nystrom_operator` or another makes it"
    )
    xp = tokens_of(operator=operator.q, v=v)
    require_matrix("v", v)
    batch = tuple(operator.shape[:-2])
    try:
        values = xp.broadcast_to(v, (*batch, *v.shape[-2:]))
    except ValueError as error:
        raise ShapeError(
            "v", f"of shape {tuple(v.shape)}", f"leading axes that broadcast to {batch}"
        ) from error
    source, seed = generator(rng)
    seed = int(source.integers(2**63)) if seed is None else seed
    told = operator.row_errors() if isinstance(operator, KnowsItsErrors) and batch else None
    found = np.empty(batch, dtype=object)
    for place in np.ndindex(*batch):
        found[place] = certify_operator(
            _head(xp, operator, place, told),
            values[(*place, ...)],
            rows=rows,
            within=within,
            most=most,
            failure=failure,
            rng=seed,
        )
    return found


def _head(xp: Any, operator: AttentionOperator, place: tuple[int, ...], told: RowErrors | None) -> Any:
    """One head of an operator."""
    if not place:
        return operator
    own = np.broadcast_shapes(tuple(operator.q.shape[:-2]), tuple(operator.k.shape[:-2]))
    inside = (*place[:-1], *divmod(place[-1], own[-1])) if operator.grouped else place

    def of(x: Array | None, tail: int) -> Array | None:
        return None if x is None else xp.broadcast_to(x, (*own, *x.shape[x.ndim - tail :]))[(*inside, ...)]

    if isinstance(operator, NystromOperator):
        return _nystrom(operator, of)
    return _Head(
        of(operator.q, 2),
        of(operator.k, 2),
        of(operator.key_mask, 1),
        of(operator.query_mask, 1),
        operator.scale,
        operator,
        place,
        None if told is None else told.of(place),
    )


def _nystrom(operator: NystromOperator, of: Any) -> NystromOperator:
    tails = {
        "q": 2,
        "k": 2,
        "query_landmarks": 2,
        "key_landmarks": 2,
        "core": 2,
        "key_mask": 1,
        "query_mask": 1,
    }
    tails |= {"row_mask": 1, "query_valid": 1, "key_valid": 1, "key_bias": 1, "bias": 2}
    pinv = operator.pinv
    if pinv is not None:
        of_matrices = {"residual": 0, "iterations": 0, "matmuls": 0, "codes": 0}
        found = {name: of(getattr(pinv, name), tail) for name, tail in {"value": 2, **of_matrices}.items()}
        pinv = replace(pinv, **found)
    parts = {name: of(getattr(operator, name), tail) for name, tail in tails.items()}
    return replace(operator, **parts, pinv=pinv, grouped=False)


@dataclass(frozen=True)
class _Head(OperatorBase):
    """One head of any operator, by all of its rows."""

    q: Any
    k: Any
    key_mask: Any
    query_mask: Any
    scale: float
    whole: Any
    place: tuple[int, ...]
    told: RowErrors | None
    grouped: bool = False

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return bool(self.whole.causal)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return bool(self.whole.stochastic)

    @property
    def entries(self) -> int:
        return int(self.whole.entries)

    def apply(self, v: Array, /) -> Array:
        return self.whole.apply(v)[(*self.place, ...)]

    def _rows(self, at: Array) -> Array:
        return self.whole.rows(at)[(*self.place, ...)]

    def row_errors(self) -> RowErrors | None:
        return self.told
